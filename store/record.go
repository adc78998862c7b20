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
	return binary.BigEndian.AppendUint32(b, checksum(r.Seq, b))
}

// decodeRecord reads what encodeRecord wrote under seq. The payload is a part
// of b.
func decodeRecord(seq uint64, b []byte) (r Record, age time.Duration, err error) {
	if len(b) > 0 && b[0] != recordVersion {
		return Record{}, 0, errVersion
	}
	head := 1 + 8 + len(r.Request)
	if len(b) < head+4 {
		return Record{}, 0, errChecksum
	}
	b, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if checksum(seq, b) != sum {
		return Record{}, 0, errChecksum
	}
	r.Seq = seq
	age = duration(b[1:9])
	copy(r.Request[:], b[9:head])
	job, rest, okJob := cutBytes(b[head:])
	topic, rest, okTopic := cutBytes(rest)
	if !okJob || !okTopic {
		return Record{}, 0, errChecksum
	}
	r.Job, r.Topic, r.Payload = string(job), string(topic), rest
	return r, age, nil
}

// cutBytes takes a length and as many bytes from the front of b.
func cutBytes(b []byte) (head, rest []byte, ok bool) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, nil, false
	}
	return b[k : k+int(n)], b[k+int(n):], true
}

// checksum covers the key too, so that a value found under another key is
// noticed.
func checksum(seq uint64, b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(number(seq), table), table, b)
}
