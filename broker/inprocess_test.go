package broker

import "github.com/beckon-rtc/beckon/topics"

// inboxFunc is the inbox of a door that has delivered what it takes.
type inboxFunc func(topics.Delivery) error

func (f inboxFunc) Take(d topics.Delivery) error  { return f(d) }
func (f inboxFunc) Back(string) []topics.Delivery { return nil }
