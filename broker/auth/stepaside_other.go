//go:build !linux

package auth

func stepAside() {}
