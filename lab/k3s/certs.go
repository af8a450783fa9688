package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const tlsDir = dataDir + "/server/tls"

// authorities as K3s names them; a joining server is given all of these files.
var authorities = words("server-ca client-ca request-header-ca etcd/server-ca etcd/peer-ca")

type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	pem         []byte
}

func writeFile(path string, data []byte, mode os.FileMode) {
	must(os.MkdirAll(filepath.Dir(path), 0o700), "making "+filepath.Dir(path))
	temporary := path + ".new"
	must(os.WriteFile(temporary, data, mode), "writing "+path)
	must(os.Rename(temporary, path), "writing "+path)
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func newKey() (crypto.Signer, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err, "making a key")
	return key, keyPEM(key)
}

func keyPEM(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalECPrivateKey(key)
	must(err, "encoding a key")
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

func serial() *big.Int {
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	must(err, "making a serial number")
	return number
}

// makeAuthorities creates the CAs and the service-account key of a new cluster, keeping what is already there.
func makeAuthorities() {
	for _, name := range authorities {
		path := tlsDir + "/" + name
		if exists(path+".key") && exists(path+".crt") {
			continue
		}
		key, encoded := newKey()
		template := &x509.Certificate{
			SerialNumber: serial(), Subject: pkix.Name{CommonName: fmt.Sprintf("k3s-%s@%d", filepath.Base(name), time.Now().Unix())},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		must(err, "signing "+name)
		writeFile(path+".key", encoded, 0o600)
		writeFile(path+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
	}
	if !exists(tlsDir + "/service.key") {
		_, encoded := newKey()
		writeFile(tlsDir+"/service.key", encoded, 0o600)
	}
}

func loadAuthority(name string) authority {
	certPEM, err := os.ReadFile(tlsDir + "/" + name + ".crt")
	must(err, "reading the CA "+name)
	keyText, err := os.ReadFile(tlsDir + "/" + name + ".key")
	must(err, "reading the CA key "+name)
	return authority{parseCertificate(certPEM), parseKey(keyText), certPEM}
}

func parseCertificate(text []byte) *x509.Certificate {
	block, _ := pem.Decode(text)
	if block == nil {
		fatal("not a certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	must(err, "parsing a certificate")
	return certificate
}

func parseKey(text []byte) crypto.Signer {
	block, _ := pem.Decode(text)
	if block == nil {
		fatal("not a key")
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	must(err, "parsing a key")
	return key
}

// subject of a certificate: a Kubernetes user and its groups.
type subject struct {
	user   string
	groups []string
	names  []string
	ips    []string
}

func (a authority) sign(public crypto.PublicKey, who subject) []byte {
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: who.user, Organization: who.groups},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), DNSNames: who.names,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, address := range who.ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
	must(err, "signing a certificate for "+who.user)
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), a.pem...)
}

// issue makes path.crt and path.key unless a certificate with these names from this CA is there and good for 90 days.
func (a authority) issue(path string, who subject) {
	if text, err := os.ReadFile(path + ".crt"); err == nil && exists(path+".key") {
		old := parseCertificate(text)
		if old.CheckSignatureFrom(a.certificate) == nil && time.Until(old.NotAfter) > 90*24*time.Hour && covers(old, who) {
			return
		}
	}
	key, encoded := newKey()
	writeFile(path+".key", encoded, 0o600)
	writeFile(path+".crt", a.sign(key.Public(), who), 0o644)
}

func covers(certificate *x509.Certificate, who subject) bool {
	for _, name := range append(append([]string{}, who.names...), who.ips...) {
		if certificate.VerifyHostname(name) != nil {
			return false
		}
	}
	return certificate.Subject.CommonName == who.user
}

// caHash is the K10 part of a token: the hash of the server CA as served on /cacerts.
func caHash(text []byte) string {
	sum := sha256.Sum256(bytes.TrimSpace(text))
	return hex.EncodeToString(sum[:])
}

func kubeconfig(path, server, cert string, mode os.FileMode) {
	read := func(name string) string {
		text, err := os.ReadFile(name)
		must(err, "reading "+name)
		return encode64(text)
	}
	writeFile(path, []byte(fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: default
  cluster:
    server: %s
    certificate-authority-data: %s
contexts:
- name: default
  context: {cluster: default, user: default}
current-context: default
users:
- name: default
  user:
    client-certificate-data: %s
    client-key-data: %s
`, server, read(serverCA()), read(cert+".crt"), read(cert+".key"))), mode)
}

// serverCA is the CA of the API's serving certificates: on servers their own file, on agents the fetched one.
func serverCA() string {
	if path := tlsDir + "/server-ca.crt"; exists(path) {
		return path
	}
	return dataDir + "/agent/server-ca.crt"
}
