package auth

import (
	"container/list"
	"sync"
)

// recent is a map that forgets what was not used for longest when it is full.
type recent[V any] struct {
	most int

	mu     sync.Mutex // guards what follows
	order  *list.List // of entry[V], the newest first
	values map[string]*list.Element
}

type entry[V any] struct {
	key   string
	value V
}

// maxRecent is how many addresses, how many names and how many answers are remembered.
const maxRecent = 10_000

func newRecent[V any]() *recent[V] {
	return &recent[V]{most: maxRecent, order: list.New(), values: make(map[string]*list.Element)}
}

func (r *recent[V]) get(key string) (v V, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.values[key]
	if !ok {
		return v, false
	}
	r.order.MoveToFront(e)
	return e.Value.(entry[V]).value, true
}

// put sets key to what update makes of its value, the zero one if it has none.
func (r *recent[V]) put(key string, update func(V) V) V {
	r.mu.Lock()
	defer r.mu.Unlock()
	var old V
	if e, ok := r.values[key]; ok {
		old = e.Value.(entry[V]).value
		r.order.Remove(e)
	}
	v := update(old)
	r.values[key] = r.order.PushFront(entry[V]{key, v})
	if r.order.Len() > r.most {
		last := r.order.Back()
		delete(r.values, last.Value.(entry[V]).key)
		r.order.Remove(last)
	}
	return v
}

func (r *recent[V]) remove(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.values[key]; ok {
		r.order.Remove(e)
		delete(r.values, key)
	}
}
