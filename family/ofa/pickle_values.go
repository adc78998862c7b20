package ofa

// pyValue is a Python value that a state_dict may contain.
type pyValue interface {
	kind() string // for error messages, with its article
}

type (
	pyNone   struct{}
	pyBool   bool
	pyInt    int64
	pyLong   string // more than 64 bits: the two's complement, little endian
	pyFloat  float64
	pyText   string
	pyTuple  []pyValue
	pyList   struct{ items []pyValue }
	pyDict   struct{ items []pyItem } // also an OrderedDict; a repeated key stays
	pyItem   struct{ key, value pyValue }
	pyGlobal string // module.name
)

// pyStorage is a block of numbers outside the pickle.
type pyStorage struct {
	key   string
	elem  elemType
	numel int64
}

// pyTensor is a view of a storage, checked to lie inside it.
type pyTensor struct {
	storage *pyStorage
	offset  int64 // elements
	shape   []int64
	stride  []int64 // elements
}

func (pyNone) kind() string     { return "None" }
func (pyBool) kind() string     { return "a bool" }
func (pyInt) kind() string      { return "an int" }
func (pyLong) kind() string     { return "an int" }
func (pyFloat) kind() string    { return "a float" }
func (pyText) kind() string     { return "a str" }
func (pyTuple) kind() string    { return "a tuple" }
func (*pyList) kind() string    { return "a list" }
func (*pyDict) kind() string    { return "a dict" }
func (*pyStorage) kind() string { return "a storage" }
func (*pyTensor) kind() string  { return "a tensor" }
func (g pyGlobal) kind() string { return "the class " + string(g) }

// lookup returns the value of a key as Python would: the last one set.
func (d *pyDict) lookup(key string) (pyValue, bool) {
	for i := len(d.items) - 1; i >= 0; i-- {
		if d.items[i].key == pyText(key) {
			return d.items[i].value, true
		}
	}
	return nil, false
}
