package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// A Record is one message for the broker.
type Record struct {
	Seq     uint64 // given by Append; rises by one, see Gap
	Topic   string
	Payload []byte // not to be changed after Append
	Job     string // ID of the job this answers; "" if it answers none
	Request Digest // of the bytes of that job
	Stream  Stream // it waits in; a record that waits no more has none
}

// size is what a record counts against the quota: bytes of topic and payload.
func (r Record) size() int64 { return int64(len(r.Topic) + len(r.Payload)) }

// recordVersion is the first byte of a stored record. A record of another
// version is left where it is for the program that wrote it.
const recordVersion = 1

var (
	errChecksum = errors.New("record does not match its checksum")
	errVersion  = errors.New("record is of another version")
)

// encodeRecord returns the stored form of r, written at the given running time:
//
//	version   1 byte
//	age       8 bytes, nanoseconds of running time
//	request  32 bytes
//	job       length as uvarint, bytes
//	topic     length as uvarint, bytes
//	payload   the rest, but for
//	CRC32C    4 bytes, over the sequence number and all of the above
func encodeRecord(r Record, age time.Duration) []byte {
	b := make([]byte, 0, 1+8+len(r.Request)+2*binary.MaxVarintLen32+len(r.Job)+len(r.Topic)+len(r.Payload)+4)
	b = append(b, recordVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(age))
	b = append(b, r.Request[:]...)
	b = append(binary.AppendUvarint(b, uint64(len(r.Job))), r.Job...)
	b = append(binary.AppendUvarint(b, uint64(len(r.Topic))), r.Topic...)
	b = append(b, r.Payload...)
	return binary.BigEndian.AppendUint32(b, checksum(number(r.Seq), b))
}

// decodeRecord reads what encodeRecord wrote under seq. The payload is a part
// of b.
func decodeRecord(seq uint64, b []byte) (r Record, age time.Duration, err error) {
	if len(b) > 0 && b[0] != recordVersion {
		return Record{}, 0, errVersion
	}
	if len(b) < 4 {
		return Record{}, 0, errChecksum
	}
	b, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if checksum(number(seq), b) != sum {
		return Record{}, 0, errChecksum
	}
	in := parser{b: b}
	in.take(1)
	age = duration(in.take(8))
	copy(r.Request[:], in.take(uint64(len(r.Request))))
	r.Seq, r.Job, r.Topic = seq, string(in.take(in.count())), string(in.take(in.count()))
	r.Payload = in.b
	if in.bad {
		return Record{}, 0, errChecksum
	}
	return r, age, nil
}

// checksum is the CRC32C of all parts. What names a value is one of them, so that one
// that is found under another name is noticed.
func checksum(parts ...[]byte) (sum uint32) {
	for _, p := range parts {
		sum = crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), p)
	}
	return sum
}
