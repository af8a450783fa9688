package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"sort"
	"strings"
	"time"
)

// CertificateSpec is the part of a Certificate's spec that the lab knows; the webhook refuses the rest.
type CertificateSpec struct {
	SecretName           string          `json:"secretName"`
	CommonName           string          `json:"commonName,omitempty"`
	DNSNames             []string        `json:"dnsNames,omitempty"`
	IPAddresses          []string        `json:"ipAddresses,omitempty"`
	Duration             string          `json:"duration,omitempty"`
	RenewBefore          string          `json:"renewBefore,omitempty"`
	IsCA                 bool            `json:"isCA,omitempty"`
	Usages               []string        `json:"usages,omitempty"`
	IssuerRef            IssuerReference `json:"issuerRef"`
	RevisionHistoryLimit int             `json:"revisionHistoryLimit,omitempty"`
	Subject              struct {
		Organizations []string `json:"organizations,omitempty"`
	} `json:"subject"`
	PrivateKey struct {
		Algorithm      string `json:"algorithm,omitempty"`
		Size           int    `json:"size,omitempty"`
		RotationPolicy string `json:"rotationPolicy,omitempty"`
		Encoding       string `json:"encoding,omitempty"`
	} `json:"privateKey"`
}

type IssuerReference struct {
	Name  string `json:"name"`
	Kind  string `json:"kind,omitempty"`
	Group string `json:"group,omitempty"`
}

// Pair is a certificate with its key.
type Pair struct {
	certificate *x509.Certificate
	key         crypto.Signer
	text        []byte
}

func (spec CertificateSpec) duration() (time.Duration, error) {
	if spec.Duration == "" {
		return 90 * 24 * time.Hour, nil
	}
	return time.ParseDuration(spec.Duration)
}

// renewalOf is when the certificate has to be made anew: by default after two thirds of its life.
func (spec CertificateSpec) renewalOf(certificate *x509.Certificate) time.Time {
	before := certificate.NotAfter.Sub(certificate.NotBefore) / 3
	if wanted, err := time.ParseDuration(spec.RenewBefore); err == nil {
		before = wanted
	}
	return certificate.NotAfter.Add(-before)
}

func (spec CertificateSpec) newKey() (crypto.Signer, error) {
	size := spec.PrivateKey.Size
	switch spec.PrivateKey.Algorithm {
	case "", "RSA":
		if size == 0 {
			size = 2048
		}
		return rsa.GenerateKey(rand.Reader, size)
	case "ECDSA":
		curves := map[int]elliptic.Curve{0: elliptic.P256(), 256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}
		if curve := curves[size]; curve != nil {
			return ecdsa.GenerateKey(curve, rand.Reader)
		}
	}
	return nil, fmt.Errorf("privateKey %s %d: not part of the rehearsal lab", spec.PrivateKey.Algorithm, size)
}

func (spec CertificateSpec) addresses() []net.IP {
	var found []net.IP
	for _, text := range spec.IPAddresses {
		found = append(found, net.ParseIP(text))
	}
	return found
}

// differs says which field of the spec the certificate does not have, or "".
func (spec CertificateSpec) differs(certificate *x509.Certificate) string {
	same := func(a, b []string) bool {
		a, b = slices.Clone(a), slices.Clone(b)
		sort.Strings(a)
		sort.Strings(b)
		return slices.Equal(a, b)
	}
	var addresses []string
	for _, address := range certificate.IPAddresses {
		addresses = append(addresses, address.String())
	}
	switch {
	case spec.CommonName != certificate.Subject.CommonName:
		return "spec.commonName"
	case !same(spec.DNSNames, certificate.DNSNames):
		return "spec.dnsNames"
	case !same(spec.IPAddresses, addresses):
		return "spec.ipAddresses"
	case spec.IsCA != certificate.IsCA:
		return "spec.isCA"
	}
	return ""
}

var keyUsages = map[string]x509.KeyUsage{
	"signing": x509.KeyUsageDigitalSignature, "digital signature": x509.KeyUsageDigitalSignature, "key encipherment": x509.KeyUsageKeyEncipherment,
	"cert sign": x509.KeyUsageCertSign, "crl sign": x509.KeyUsageCRLSign,
}

var extendedUsages = map[string]x509.ExtKeyUsage{"server auth": x509.ExtKeyUsageServerAuth, "client auth": x509.ExtKeyUsageClientAuth}

// sign makes the certificate that the request asks for. issuer nil: signed by key, its own.
func sign(spec CertificateSpec, request *x509.CertificateRequest, issuer *Pair, own crypto.Signer) ([]byte, error) {
	life, err := spec.duration()
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: request.Subject, DNSNames: request.DNSNames, IPAddresses: request.IPAddresses,
		NotBefore: time.Now().Truncate(time.Second), NotAfter: time.Now().Truncate(time.Second).Add(life),
		IsCA: spec.IsCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	for i, usage := range spec.Usages {
		if i == 0 {
			template.KeyUsage = 0
		}
		template.KeyUsage |= keyUsages[usage]
		if extended, known := extendedUsages[usage]; known {
			template.ExtKeyUsage = append(template.ExtKeyUsage, extended)
		}
	}
	if spec.IsCA {
		template.KeyUsage |= x509.KeyUsageCertSign
	}
	parent, signer := template, own
	if issuer != nil {
		parent, signer = issuer.certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, request.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func (spec CertificateSpec) request(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: spec.CommonName, Organization: spec.Subject.Organizations},
		DNSNames: spec.DNSNames, IPAddresses: spec.addresses(),
	}, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

func parseRequest(text []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("error decoding certificate request PEM block")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("error decoding certificate PEM block")
	}
	return x509.ParseCertificate(block.Bytes)
}

func keyText(key crypto.Signer) ([]byte, error) {
	if private, isRSA := key.(*rsa.PrivateKey); isRSA {
		return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)}), nil
	}
	private, isECDSA := key.(*ecdsa.PrivateKey)
	if !isECDSA {
		return nil, fmt.Errorf("a key of type %T", key)
	}
	der, err := x509.MarshalECPrivateKey(private)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("error decoding private key PEM block")
	}
	switch {
	case strings.HasPrefix(block.Type, "RSA"):
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case strings.HasPrefix(block.Type, "EC"):
		return x509.ParseECPrivateKey(block.Bytes)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, able := key.(crypto.Signer)
	if !able {
		return nil, fmt.Errorf("a key of type %T", key)
	}
	return signer, nil
}

// parsePair reads tls.crt and tls.key, which must belong together.
func parsePair(certificate, key []byte) (*Pair, error) {
	parsed, err := parseCertificate(certificate)
	if err != nil {
		return nil, err
	}
	signer, err := parseKey(key)
	if err != nil {
		return nil, err
	}
	public, comparable := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !comparable || !public.Equal(parsed.PublicKey) {
		return nil, errors.New("tls: private key does not match public key")
	}
	return &Pair{parsed, signer, certificate}, nil
}
