package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	ctx, client := context.Background(), kubernetesClient(adminConfig)
	secrets := client.CoreV1().Secrets("kube-system")
	known, err := secrets.Get(ctx, name, meta.GetOptions{})
	switch {
	case err == nil && known.Annotations["hash"] == hash:
		return nil
	case err == nil:
		if _, err := client.CoreV1().Nodes().Get(ctx, node, meta.GetOptions{}); !errors.IsNotFound(err) {
			return fmt.Errorf("node password rejected, duplicate hostname or contents of %s may not match server node-passwd entry", nodePasswordFile)
		}
		if err := secrets.Delete(ctx, name, meta.DeleteOptions{}); err != nil {
			return fmt.Errorf("forgetting the old password: %w", err)
		}
	case !errors.IsNotFound(err):
		return fmt.Errorf("reading the node's password: %w", err)
	}
	immutable := true
	secret := core.Secret{ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{"hash": hash}},
		Immutable: &immutable, StringData: map[string]string{"hash": hash}}
	if _, err := secrets.Create(ctx, &secret, meta.CreateOptions{}); err != nil {
		return fmt.Errorf("keeping the node's password: %w", err)
	}
	return nil
}
