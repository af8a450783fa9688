package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The lab's NFS servers are folders that every host sees: exports/SERVER/SHARE. A file beside them says that they are gone.
const (
	nfsRoot = "/srv/lab-nfs"
	nobody  = 65534
)

// mounted is the folder that mounting SERVER:SHARE would show, or what mount.nfs would say.
func mounted(server, share string) (string, error) {
	failed := func(reason string) error {
		return fmt.Errorf("mount failed: exit status 32\nMounting command: mount\nMounting arguments: -t nfs %s:%s\nOutput: mount.nfs: %s", server, share, reason)
	}
	folder := filepath.Join(nfsRoot, "exports", filepath.Clean("/"+server))
	if _, err := os.Stat(filepath.Join(nfsRoot, "gone")); err == nil {
		return "", failed("Connection timed out")
	}
	if _, err := os.Stat(folder); err != nil {
		return "", failed("Connection timed out for " + server + " on " + share)
	}
	folder = filepath.Join(folder, filepath.Clean("/"+share))
	if _, err := os.Stat(folder); err != nil {
		return "", failed("access denied by server while mounting " + server + ":" + share)
	}
	return folder, nil
}

// makeFolder makes a volume's folder as a server does that squashes root, for a client with the usual umask: it belongs
// to nobody, others may not write. mode 0 leaves it so.
func makeFolder(base, name string, mode uint32) error {
	folder := base
	for _, part := range strings.Split(filepath.Clean(name), "/") {
		folder = filepath.Join(folder, part)
		if err := os.Mkdir(folder, 0o755); errors.Is(err, os.ErrExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := os.Chown(folder, nobody, nobody); err != nil {
			return err
		}
	}
	if mode == 0 {
		return nil
	}
	return chmod(folder, mode)
}

// chmod does what a squashed root may do: change the mode of what belongs to nobody.
func chmod(folder string, mode uint32) error {
	var known unix.Stat_t
	if err := unix.Stat(folder, &known); err != nil || known.Mode&0o7777 == mode {
		return err
	}
	if known.Uid != nobody {
		return fmt.Errorf("chmod %s: operation not permitted", folder)
	}
	return unix.Chmod(folder, mode)
}
