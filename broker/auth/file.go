package auth

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// How long the files may be.
const (
	maxUsers = 16 << 20
	maxKeys  = 1 << 20
	maxCRL   = 16 << 20
)

// readFile reads a file that should have at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a folder, it takes a file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes; is it the right file?", path, limit)
	}
	return data, nil
}

// warnReadable warns of a file with secrets that everyone may read.
func warnReadable(log *slog.Logger, path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		log.Warn("everyone on this machine may read or write a file with secrets; chmod it to 0600", "file", path, "mode", info.Mode().Perm().String())
	}
}

// replaceFile puts data in the place of the file at path, at once, with mode
// 0600. It keeps the owner where it may.
func replaceFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".beckon-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if old, err := os.Stat(path); err == nil {
		keepOwner(f, old)
	}
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
