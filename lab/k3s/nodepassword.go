package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

const nodePasswordFile = "/etc/rancher/node/password"

// nodePassword is what proves that a node of this name is the machine it was before; made on first start, as K3s does.
func nodePassword() string {
	if text, err := os.ReadFile(nodePasswordFile); err == nil {
		return strings.TrimSpace(string(text))
	}
	random := make([]byte, 16)
	_, err := rand.Read(random)
	must(err, "making the node's password")
	password := hex.EncodeToString(random)
	writeFile(nodePasswordFile, []byte(password+"\n"), 0o600)
	return password
}

// checkNodePassword keeps the password's hash in a Secret, and refuses another one as long as the Node is there.
func checkNodePassword(node, password string) error {
	sum := sha256.Sum256([]byte(node + ":" + password))
	hash, name := hex.EncodeToString(sum[:]), node+".node-password.k3s"
	known, err := kubectlAdmin("-n", "kube-system", "get", "secret", name, "--ignore-not-found", "-o", "jsonpath={.immutable}{.metadata.annotations.hash}")
	if err != nil {
		return fmt.Errorf("reading the node's password: %s", strings.TrimSpace(known))
	}
	known = strings.TrimPrefix(strings.TrimSpace(known), "true")
	if known == hash {
		return nil
	}
	if known != "" {
		if there, err := kubectlAdmin("get", "node", node, "--ignore-not-found", "-o", "name"); err != nil || strings.TrimSpace(there) != "" {
			return fmt.Errorf("node password rejected, duplicate hostname or contents of %s may not match server node-passwd entry", nodePasswordFile)
		}
		if output, err := kubectlAdmin("-n", "kube-system", "delete", "secret", name); err != nil {
			return fmt.Errorf("forgetting the old password: %s", strings.TrimSpace(output))
		}
	}
	manifest := fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","immutable":true,"metadata":{"name":%q,"namespace":"kube-system","annotations":{"hash":%q}},"stringData":{"hash":%q}}`, name, hash, hash)
	path := serverDir + "/node-password-" + node + ".json"
	writeFile(path, []byte(manifest), 0o600)
	defer os.Remove(path)
	if output, err := kubectlAdmin("create", "-f", path); err != nil {
		return fmt.Errorf("keeping the node's password: %s", strings.TrimSpace(output))
	}
	return nil
}
