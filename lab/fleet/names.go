package main

import (
	"crypto/md5"
	"encoding/hex"
	"regexp"
	"strings"
)

const nameLimit = 53 // Helm's, for releases

var (
	oddCharacters = regexp.MustCompile(`[^a-zA-Z0-9-]+`)
	dashes        = regexp.MustCompile(`-+`)
	label         = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
)

func hash(text string, length int) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])[:length]
}

// bundleName is what Fleet makes of "<gitrepo>/<path>": dashes for slashes; a hash for what is lost otherwise (capital
// letters, odd characters); cut with a hash when it is longer than a release may be called.
func bundleName(path string) string {
	name := strings.ReplaceAll(path, "/", "-")
	if name != strings.ToLower(name) || oddCharacters.MatchString(name) {
		name += "-" + hash(name, 8)
	}
	name = dashes.ReplaceAllString(oddCharacters.ReplaceAllString(strings.ToLower(name), "-"), "-")
	name = strings.Trim(name, "-")
	if !label.MatchString(name) {
		return hash(path, 24)
	}
	if len(name) <= nameLimit {
		return name
	}
	return strings.TrimSuffix(name[:nameLimit-6], "-") + "-" + hash(name, 5)
}
