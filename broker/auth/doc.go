// Package auth turns credentials into an identity and its grants. Each way to do
// so is a func of the shape that package broker and package bridge ask for.
package auth
