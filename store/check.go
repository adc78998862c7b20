package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// A bbolt file is pages of one size, native in its byte order:
//
//	0, 1   meta: where the others begin, as of one commit; the newer sound one counts
//	n      branch or leaf: header, table of elements, then keys and values without a
//	       hole between them, over as many pages as they need
//	n      free list: the numbers of the pages that nothing leads to, in order
//
// What bbolt takes on trust is checked here from the file itself, before bbolt maps
// it: a number that makes no sense would have it fault, run for ever, or write over
// what is in use. That there are no holes tells of elements that went missing.
const (
	pageHeader  = 16 // bytes: number 8, flags 2, count 2, overflow 4
	elementSize = 16 // bytes: branch: position 4, key 4, page 8; leaf: flags, position, key, value, 4 each
	metaSize    = 64 // bytes, behind the header
	bucketSize  = 16 // bytes: root 8, sequence 8; behind it the page itself where root is 0

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of an element of a leaf

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	noFreelist  = 1<<64 - 1
	longestKey  = 32768 // bytes
	longestList = 0xFFFF
	deepest     = 64 // pages below one another; a full tree of 2^64 keys has fewer

	smallestPage = 1 << 10 // bytes
	largestPage  = 1 << 16
	leastFile    = 1 << 12 // bytes that bbolt reads to learn how large a page is
)

// A metaPage says where the rest of a file is, as of one commit.
type metaPage struct {
	pageSize int64
	root     uint64
	freelist uint64
	pages    uint64 // in use; those of the file from here on are not
	commit   uint64 // its number
}

func parseMeta(page []byte) (metaPage, error) {
	b := page[pageHeader : pageHeader+metaSize]
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	m := metaPage{pageSize: int64(u32(8)), root: u64(16), freelist: u64(32), pages: u64(40), commit: u64(48)}
	switch {
	case u32(0) != boltMagic || u32(4) != boltVersion:
		return m, errors.New("is none of a store")
	case u64(56) != sum.Sum64():
		return m, errors.New("has a wrong checksum")
	case m.pageSize < smallestPage || m.pageSize > largestPage || m.pageSize&(m.pageSize-1) != 0:
		return m, fmt.Errorf("tells of pages of %d bytes", m.pageSize)
	}
	return m, nil
}

// A pageCheck goes through the pages of one file. It takes a bit and at most one read
// for each page, besides the keys of elements that are longer than a page.
type pageCheck struct {
	file io.ReaderAt
	meta metaPage
	used []uint64        // a bit for each page that was met
	held [deepest][]byte // the page being read at each depth
}

// checkPages tells whether bbolt can read and write a file of so many bytes. The error
// is errDamaged with the page and what is wrong about it. Where only one of the two
// first pages is sound, the file is as of the commit that it tells of, maybe not the
// last one, and older says why.
func checkPages(file io.ReaderAt, size int64) (older, err error) {
	if size < leastFile {
		return nil, fmt.Errorf("%w: %d bytes are no file of a store", errDamaged, size)
	}
	c := pageCheck{file: file}
	if c.meta, older, err = findMeta(file); err != nil {
		return nil, err
	}
	if most := uint64(size / c.meta.pageSize); c.meta.pages > most {
		return nil, fmt.Errorf("%w: cut short to %d of %d pages", errDamaged, most, c.meta.pages)
	}
	c.used = make([]uint64, c.meta.pages/64+1)
	if err := c.mark(0, 1); err != nil {
		return nil, err
	}
	if err := c.tree(c.meta.root, nil, nil, 0); err != nil {
		return nil, err
	}
	return older, c.freelist()
}

// findMeta returns what the newer sound one of the first two pages says.
func findMeta(file io.ReaderAt) (m metaPage, older, err error) {
	page := make([]byte, pageHeader+metaSize)
	var metas [2]metaPage
	var errs [2]error
	if _, err := file.ReadAt(page, 0); err != nil {
		return m, nil, damagedPage(0, "%w", err)
	}
	metas[0], errs[0] = parseMeta(page)
	for at := int64(smallestPage); at <= largestPage; at *= 2 {
		if errs[0] == nil && at != metas[0].pageSize {
			continue // only where the first is damaged the size is not known
		}
		if _, errs[1] = file.ReadAt(page, at); errs[1] == nil {
			metas[1], errs[1] = parseMeta(page)
		}
		if errs[1] != nil {
			continue
		}
		if metas[1].pageSize != at {
			errs[1] = fmt.Errorf("tells of pages of %d bytes, and lies at %d", metas[1].pageSize, at)
		}
		break
	}
	switch {
	case errs[0] != nil && errs[1] != nil:
		return m, nil, errors.Join(damagedPage(0, "%w", errs[0]), damagedPage(1, "%w", errs[1]))
	case errs[0] != nil:
		return metas[1], damagedPage(0, "%w", errs[0]), nil
	case errs[1] != nil:
		return metas[0], damagedPage(1, "%w", errs[1]), nil
	case metas[1].commit > metas[0].commit:
		return metas[1], nil, nil
	}
	return metas[0], nil, nil
}

func damagedPage(id uint64, format string, args ...any) error {
	return fmt.Errorf("%w: page %d "+format, append([]any{errDamaged, id}, args...)...)
}

// mark notes that a page and the more behind it are in use, once.
func (c *pageCheck) mark(id, more uint64) error {
	if id >= c.meta.pages || more >= c.meta.pages-id {
		return damagedPage(id, "and %d more are beyond the last of %d", more, c.meta.pages)
	}
	for ; ; id, more = id+1, more-1 {
		if c.met(id) {
			return damagedPage(id, "is used twice")
		}
		c.used[id/64] |= 1 << (id % 64)
		if more == 0 {
			return nil
		}
	}
}

func (c *pageCheck) met(id uint64) bool { return c.used[id/64]>>(id%64)&1 == 1 }

// header reads a page that is there to be read: its flags and count, and how many
// pages more it takes.
func (c *pageCheck) header(id uint64, page []byte) (flags, count uint16, more uint64, err error) {
	if id < 2 || id >= c.meta.pages {
		return 0, 0, 0, damagedPage(id, "is none of %d", c.meta.pages)
	}
	if _, err := c.file.ReadAt(page, int64(id)*c.meta.pageSize); err != nil {
		return 0, 0, 0, damagedPage(id, "cannot be read: %w", err)
	}
	if self := binary.NativeEndian.Uint64(page); self != id {
		return 0, 0, 0, damagedPage(id, "says that it is page %d", self)
	}
	flags, count = binary.NativeEndian.Uint16(page[8:]), binary.NativeEndian.Uint16(page[10:])
	more = uint64(binary.NativeEndian.Uint32(page[12:]))
	return flags, count, more, c.mark(id, more)
}

// tree checks what is reached from page id, which a bucket or a branch leads to. The
// keys begin with first, if that is known, and are all below limit, if there is one.
func (c *pageCheck) tree(id uint64, first, limit []byte, depth int) error {
	if depth == deepest {
		return damagedPage(id, "lies below %d others", deepest)
	}
	if c.held[depth] == nil {
		c.held[depth] = make([]byte, c.meta.pageSize)
	}
	page := c.held[depth]
	flags, count, more, err := c.header(id, page)
	if err != nil {
		return err
	}
	n := node{check: c, id: id, head: page, size: int64(more+1) * c.meta.pageSize, flags: flags, count: int(count)}
	used, err := n.elements(first, limit)
	switch {
	case err != nil:
		return err
	case (used-1)/c.meta.pageSize != int64(more):
		return damagedPage(id, "fills %d bytes of %d", used, n.size)
	case count > 0 && !n.endsAt(used):
		return damagedPage(id, "has content behind its last element")
	case count == 0 && (flags == flagBranch || depth > 0):
		return damagedPage(id, "has no elements")
	case count == 0 && len(bytes.Trim(page[pageHeader:], "\x00")) > 0:
		return damagedPage(id, "has no elements and yet content")
	}
	return n.below(limit, depth+1)
}

// A node is a page of elements, with those it takes more, or the bytes in a leaf that
// stand for one.
type node struct {
	check *pageCheck
	id    uint64 // of the page; that of the leaf which holds it
	head  []byte // its first bytes
	size  int64  // bytes
	flags uint16
	count int
}

// A pageElement leads to a page, or is a key with its value.
type pageElement struct {
	at     int64 // where its key lies, from the beginning of the node
	key    int64 // bytes
	value  int64 // bytes, behind the key
	page   uint64
	bucket bool
}

func (n *node) damaged(i int, format string, args ...any) error {
	return damagedPage(n.id, "element %d "+format, append([]any{i}, args...)...)
}

// bytes returns a part of the node. It must lie within it.
func (n *node) bytes(at, length int64) ([]byte, error) {
	if at+length <= int64(len(n.head)) {
		return n.head[at : at+length], nil
	}
	b := make([]byte, length)
	if _, err := n.check.file.ReadAt(b, int64(n.id)*n.check.meta.pageSize+at); err != nil {
		return nil, damagedPage(n.id, "cannot be read: %w", err)
	}
	return b, nil
}

func (n *node) element(i int) (pageElement, error) {
	at := int64(pageHeader + i*elementSize)
	b, err := n.bytes(at, elementSize)
	if err != nil {
		return pageElement{}, err
	}
	u32 := func(at int) int64 { return int64(binary.NativeEndian.Uint32(b[at:])) }
	if n.flags == flagBranch {
		return pageElement{at: at + u32(0), key: u32(4), page: binary.NativeEndian.Uint64(b[8:])}, nil
	}
	if u32(0)&^flagBucket != 0 {
		return pageElement{}, n.damaged(i, "has flags %#x", u32(0))
	}
	return pageElement{at: at + u32(4), key: u32(8), value: u32(12), bucket: u32(0) == flagBucket}, nil
}

// elements checks the table of elements and the order of their keys, and returns how
// many bytes of the node are used.
func (n *node) elements(first, limit []byte) (used int64, err error) {
	if n.flags != flagBranch && n.flags != flagLeaf {
		return 0, damagedPage(n.id, "has flags %#x", n.flags)
	}
	used = int64(pageHeader + n.count*elementSize)
	if used > n.size {
		return 0, damagedPage(n.id, "has %d elements in %d bytes", n.count, n.size)
	}
	last := first
	for i := range n.count {
		e, err := n.element(i)
		if err != nil {
			return 0, err
		}
		if e.at != used || e.key == 0 || e.key > longestKey || e.at+e.key+e.value > n.size {
			return 0, n.damaged(i, "of %d and %d bytes lies at %d, not at %d below %d", e.key, e.value, e.at, used, n.size)
		}
		key, err := n.bytes(e.at, e.key)
		if err != nil {
			return 0, err
		}
		// What leads here goes by the first key: bbolt would not find the page again.
		if order := bytes.Compare(last, key); i > 0 && order >= 0 || i == 0 && first != nil && order != 0 ||
			limit != nil && bytes.Compare(key, limit) >= 0 {
			return 0, n.damaged(i, "is out of order")
		}
		used, last = used+e.key+e.value, key
	}
	return used, nil
}

// endsAt tells whether nothing follows the last value: bbolt fills a page up with
// zeros, so the rest of a value whose length was lowered shows. A few bytes tell; in
// all others that are not used damage does no harm.
func (n *node) endsAt(used int64) bool {
	b, err := n.bytes(used, min(8, n.size-used))
	return err == nil && len(bytes.Trim(b, "\x00")) == 0
}

// below checks what the elements lead to.
func (n *node) below(limit []byte, depth int) error {
	for i := range n.count {
		e, err := n.element(i)
		if err == nil && n.flags == flagBranch {
			err = n.child(i, e, limit, depth)
		} else if err == nil && e.bucket {
			err = n.bucket(i, e, depth)
		} else if err == nil && depth == 1 {
			err = n.damaged(i, "is no bucket")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// child checks the page that an element of a branch leads to.
func (n *node) child(i int, e pageElement, limit []byte, depth int) error {
	first, err := n.bytes(e.at, e.key)
	if err == nil && i+1 < n.count {
		var next pageElement
		if next, err = n.element(i + 1); err == nil {
			limit, err = n.bytes(next.at, next.key)
		}
	}
	if err != nil {
		return err
	}
	return n.check.tree(e.page, first, limit, depth)
}

// bucket checks the tree of a bucket, or the page that it has in its stead.
func (n *node) bucket(i int, e pageElement, depth int) error {
	if e.value < bucketSize || e.value > bucketSize+n.check.meta.pageSize {
		return n.damaged(i, "is a bucket of %d bytes", e.value)
	}
	b, err := n.bytes(e.at+e.key, e.value)
	if err != nil {
		return err
	}
	root, inline := binary.NativeEndian.Uint64(b), b[bucketSize:]
	switch {
	case root != 0 && len(inline) > 0, root == 0 && len(inline) < pageHeader:
		return n.damaged(i, "is a bucket of page %d and of %d bytes", root, len(inline))
	case root != 0:
		return n.check.tree(root, nil, nil, depth)
	}
	if id, more := binary.NativeEndian.Uint64(inline), binary.NativeEndian.Uint32(inline[12:]); id != 0 || more != 0 {
		return n.damaged(i, "is a bucket that says it is page %d and %d more", id, more) // which bbolt would free
	}
	in := node{check: n.check, id: n.id, head: inline, size: int64(len(inline)),
		flags: binary.NativeEndian.Uint16(inline[8:]), count: int(binary.NativeEndian.Uint16(inline[10:]))}
	used, err := in.elements(nil, nil)
	if err == nil && (in.flags != flagLeaf || used != in.size) {
		err = n.damaged(i, "is a bucket that fills %d bytes of %d", used, in.size)
	}
	if err != nil {
		return err
	}
	return in.below(nil, depth+1)
}

// freelist checks that each page is either in use or free.
func (c *pageCheck) freelist() error {
	id := c.meta.freelist
	if id == noFreelist {
		return nil // bbolt makes one of what is not in use
	}
	head := make([]byte, pageHeader)
	flags, short, more, err := c.header(id, head)
	if err != nil {
		return err
	}
	if flags != flagFreelist {
		return damagedPage(id, "has flags %#x, not those of the free list", flags)
	}
	list := freeIDs{page: id, from: io.NewSectionReader(c.file, int64(id)*c.meta.pageSize+pageHeader,
		int64(more+1)*c.meta.pageSize-pageHeader)}
	count := uint64(short)
	if count == longestList {
		if count, err = list.next(); err != nil {
			return err
		}
	}
	if err := c.free(&list, count); err != nil {
		return err
	}
	for id := range c.meta.pages {
		if !c.met(id) {
			return damagedPage(id, "is neither in use nor free")
		}
	}
	return nil
}

// free marks the pages of the free list.
func (c *pageCheck) free(list *freeIDs, count uint64) error {
	last := uint64(1)
	for range count {
		id, err := list.next()
		if err != nil {
			return err
		}
		if id <= last {
			return damagedPage(list.page, "lists page %d behind %d as free", id, last)
		}
		if err := c.mark(id, 0); err != nil {
			return fmt.Errorf("%w, and free", err)
		}
		last = id
	}
	return nil
}

// freeIDs reads the numbers in a free list.
type freeIDs struct {
	page uint64
	from io.Reader
	read [4096]byte
	left []byte
}

func (f *freeIDs) next() (uint64, error) {
	if len(f.left) == 0 {
		n, err := io.ReadFull(f.from, f.read[:])
		if n < 8 {
			return 0, damagedPage(f.page, "lists more than it has room for: %w", err)
		}
		f.left = f.read[:n-n%8]
	}
	id := binary.NativeEndian.Uint64(f.left)
	f.left = f.left[8:]
	return id, nil
}
