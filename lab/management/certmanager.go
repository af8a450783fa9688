package main

import (
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"gpuctl.lab/incluster"
)

const (
	certManager = "/apis/cert-manager.io/v1"
	apiVersion  = "cert-manager.io/v1"
	// refuse on a ClusterIssuer is a fault: its requests stay pending, with the annotation's text as the reason
	refuse = "gpuctl.lab/refuse"
)

// Issuer is a ClusterIssuer. The lab has no namespaced ones.
type Issuer struct {
	Metadata Meta
	Spec     struct {
		SelfSigned *struct{}
		CA         *struct{ SecretName string }
		ACME       *struct{ Server, Email string }
	}
	Status struct{ Conditions []Condition }
}

type Certificate struct {
	Metadata Meta
	Spec     CertificateSpec
	Status   struct {
		Conditions  []Condition
		Revision    int
		NotAfter    string
		RenewalTime string
	}
}

// Request is a CertificateRequest. The controller alone makes them in the lab.
type Request struct {
	Metadata Meta
	Spec     struct {
		Request   []byte
		IssuerRef IssuerReference
		Duration  string
		IsCA      bool
		Usages    []string
	}
	Status struct {
		Conditions  []Condition
		Certificate []byte
		CA          []byte
	}
}

type Secret struct {
	Metadata Meta
	Type     string
	Data     map[string][]byte
}

// controller holds the keys of requests that are under way; the real one keeps them in Secrets.
type controller struct {
	keys    map[string]crypto.Signer
	issuers map[string]Issuer
}

func runCertManager([]string) {
	state := controller{keys: map[string]crypto.Signer{}}
	incluster.Forever(time.Second, func() error {
		return errors.Join(state.reconcileIssuers(), reconcileIngresses(), state.reconcileRequests(), state.reconcileCertificates())
	})
}

func getSecret(namespace, name string) (*Secret, error) {
	var found Secret
	err := incluster.Call("GET", "/api/v1/namespaces/"+namespace+"/secrets/"+name, nil, "", &found)
	return &found, err
}

func setStatus(collection string, of Meta, status object) error {
	path := certManager + "/" + collection + "/" + of.Name + "/status"
	if of.Namespace != "" {
		path = certManager + "/namespaces/" + of.Namespace + "/" + collection + "/" + of.Name + "/status"
	}
	return incluster.Call("PATCH", path, object{"status": status}, incluster.MergePatch, nil)
}

func (state *controller) reconcileIssuers() error {
	var found struct{ Items []Issuer }
	if err := incluster.Call("GET", certManager+"/clusterissuers", nil, "", &found); err != nil {
		return err
	}
	state.issuers = map[string]Issuer{}
	var failed error
	for _, issuer := range found.Items {
		condition := issuer.condition()
		condition.ObservedGeneration = issuer.Metadata.Generation
		conditions, changed := with(issuer.Status.Conditions, condition)
		if changed {
			incluster.Logf("ClusterIssuer %s: Ready=%s %s %s", issuer.Metadata.Name, condition.Status, condition.Reason, condition.Message)
			if condition.Status == "False" {
				event("cert-manager-clusterissuers", apiVersion, "ClusterIssuer", issuer.Metadata, "Warning", condition.Reason, condition.Message)
			}
			failed = errors.Join(failed, setStatus("clusterissuers", issuer.Metadata, object{"conditions": conditions}))
		}
		issuer.Status.Conditions = conditions
		state.issuers[issuer.Metadata.Name] = issuer
	}
	return failed
}

func (issuer Issuer) condition() Condition {
	switch {
	case issuer.Spec.SelfSigned != nil:
		return Condition{Type: "Ready", Status: "True", Reason: "IsReady"}
	case issuer.Spec.ACME != nil:
		return Condition{Type: "Ready", Status: "False", Reason: "ErrRegisterACMEAccount",
			Message: "Failed to register ACME account: the rehearsal lab has no ACME server and no way to " + issuer.Spec.ACME.Server}
	}
	if _, reason, err := issuer.pair(); err != nil {
		return Condition{Type: "Ready", Status: "False", Reason: reason, Message: "Error getting keypair for CA issuer: " + err.Error()}
	}
	return Condition{Type: "Ready", Status: "True", Reason: "KeyPairVerified", Message: "Signing CA verified"}
}

// pair is the issuer's own certificate and key (nil: self-signed), or the reason why there is none.
func (issuer Issuer) pair() (*Pair, string, error) {
	if issuer.Spec.CA == nil {
		return nil, "", nil
	}
	// a ClusterIssuer's secret lies in the namespace of cert-manager
	secret, err := getSecret(os.Getenv("POD_NAMESPACE"), issuer.Spec.CA.SecretName)
	var answer incluster.Error
	if errors.As(err, &answer) {
		err = errors.New(answer.Text)
	}
	if err != nil {
		return nil, "ErrGetKeyPair", err
	}
	pair, err := parsePair(secret.Data["tls.crt"], secret.Data["tls.key"])
	if err != nil {
		return nil, "ErrInvalidKeyPair", err
	}
	if !pair.certificate.IsCA {
		return nil, "ErrInvalidKeyPair", errors.New("signing certificate is not a CA")
	}
	return pair, "", nil
}

func (state *controller) reconcileRequests() error {
	var found struct{ Items []Request }
	if err := incluster.Call("GET", certManager+"/certificaterequests", nil, "", &found); err != nil {
		return err
	}
	var failed error
	for _, request := range found.Items {
		if find(request.Status.Conditions, "Ready").Status == "True" {
			continue
		}
		failed = errors.Join(failed, state.reconcileRequest(request))
	}
	return failed
}

func (state *controller) reconcileRequest(request Request) error {
	key, known := state.keys[request.Metadata.UID]
	if !known { // left by a controller before this one, whose keys are lost
		return deleteRequest(request.Metadata)
	}
	status := object{}
	ready := Condition{Type: "Ready", Status: "False", Reason: "Pending"}
	reference := request.Spec.IssuerRef
	issuer, exists := state.issuers[reference.Name]
	level := "Normal"
	switch {
	case reference.Kind != "ClusterIssuer" || !exists:
		kind := reference.Kind
		if kind == "" {
			kind = "Issuer"
		}
		ready.Message = fmt.Sprintf("Referenced %q not found: %s.cert-manager.io %q not found", kind, strings.ToLower(kind), reference.Name)
	case issuer.Metadata.Annotations[refuse] != "":
		ready.Message, level = issuer.Metadata.Annotations[refuse], "Warning"
	case find(issuer.Status.Conditions, "Ready").Status != "True":
		ready.Message = "Referenced issuer does not have a Ready status condition"
	default:
		pair, _, err := issuer.pair()
		if err != nil {
			return err
		}
		asked, err := parseRequest(request.Spec.Request)
		if err != nil {
			return err
		}
		spec := CertificateSpec{Duration: request.Spec.Duration, IsCA: request.Spec.IsCA, Usages: request.Spec.Usages}
		signed, err := sign(spec, asked, pair, key)
		if err != nil {
			return err
		}
		ready = Condition{Type: "Ready", Status: "True", Reason: "Issued", Message: "Certificate fetched from issuer successfully"}
		status["certificate"], status["ca"] = signed, signed
		if pair != nil {
			status["ca"] = pair.text
		}
	}
	approved := Condition{Type: "Approved", Status: "True", Reason: "cert-manager.io",
		Message: "Certificate request has been approved by cert-manager.io"}
	conditions, _ := with(request.Status.Conditions, approved)
	conditions, changed := with(conditions, ready)
	if !changed {
		return nil
	}
	incluster.Logf("CertificateRequest %s/%s: %s %s", request.Metadata.Namespace, request.Metadata.Name, ready.Reason, ready.Message)
	reason := map[string]string{"Issued": "CertificateIssued"}[ready.Reason]
	if reason == "" {
		reason = "IssuerNotReady"
		if !exists {
			reason = "IssuerNotFound"
		}
	}
	event("cert-manager-certificaterequests-issuer-ca", apiVersion, "CertificateRequest", request.Metadata, level, reason, ready.Message)
	status["conditions"] = conditions
	return setStatus("certificaterequests", request.Metadata, status)
}

func deleteRequest(of Meta) error {
	err := incluster.Call("DELETE", certManager+"/namespaces/"+of.Namespace+"/certificaterequests/"+of.Name, nil, "", nil)
	if incluster.Is(err, http.StatusNotFound) {
		return nil
	}
	return err
}

func (state *controller) reconcileCertificates() error {
	var found struct{ Items []Certificate }
	if err := incluster.Call("GET", certManager+"/certificates", nil, "", &found); err != nil {
		return err
	}
	var failed error
	for _, certificate := range found.Items {
		if certificate.Metadata.DeletionTimestamp == "" {
			failed = errors.Join(failed, state.reconcileCertificate(certificate))
		}
	}
	return failed
}

// verdict is why a certificate must be issued, or reason "" with the one that is there.
func (certificate Certificate) verdict() (secret *Secret, pair *Pair, reason, message string, err error) {
	spec := certificate.Spec
	secret, err = getSecret(certificate.Metadata.Namespace, spec.SecretName)
	if incluster.Is(err, http.StatusNotFound) {
		return nil, nil, "DoesNotExist", "Issuing certificate as Secret does not exist", nil
	}
	if err != nil {
		return nil, nil, "", "", err
	}
	if len(secret.Data["tls.crt"]) == 0 || len(secret.Data["tls.key"]) == 0 {
		return secret, nil, "MissingData", "Issuing certificate as Secret does not contain a certificate and a private key", nil
	}
	pair, err = parsePair(secret.Data["tls.crt"], secret.Data["tls.key"])
	if err != nil {
		return secret, nil, "InvalidKeyPair", "Issuing certificate as Secret contains an invalid key-pair: " + err.Error(), nil
	}
	reference := spec.IssuerRef
	before := secret.Metadata.Annotations
	if before["cert-manager.io/issuer-name"] != reference.Name || before["cert-manager.io/issuer-kind"] != reference.Kind {
		return secret, pair, "IncorrectIssuer", fmt.Sprintf("Issuing certificate as Secret was previously issued by %q",
			before["cert-manager.io/issuer-kind"]+".cert-manager.io/"+before["cert-manager.io/issuer-name"]), nil
	}
	if field := spec.differs(pair.certificate); field != "" {
		return secret, pair, "SecretMismatch", fmt.Sprintf("Issuing certificate as Existing issued Secret is not up to date for spec: [%s]", field), nil
	}
	if time.Now().After(pair.certificate.NotAfter) {
		return secret, pair, "Expired", "Certificate expired on " + pair.certificate.NotAfter.UTC().Format(time.RFC1123), nil
	}
	if renewal := spec.renewalOf(pair.certificate); time.Now().After(renewal) {
		return secret, pair, "Renewing", "Renewing certificate as renewal was scheduled at " + renewal.UTC().String(), nil
	}
	return secret, pair, "", "", nil
}

func (state *controller) reconcileCertificate(certificate Certificate) error {
	of := certificate.Metadata
	secret, pair, reason, message, err := certificate.verdict()
	if err != nil {
		return err
	}
	if reason == "" {
		conditions, changed := with(without(certificate.Status.Conditions, "Issuing"), Condition{Type: "Ready", Status: "True", Reason: "Ready",
			Message: "Certificate is up to date and has not expired", ObservedGeneration: of.Generation})
		if !changed && len(conditions) == len(certificate.Status.Conditions) {
			return nil
		}
		return setStatus("certificates", of, object{"conditions": conditions,
			"notBefore":   pair.certificate.NotBefore.UTC().Format(time.RFC3339),
			"notAfter":    pair.certificate.NotAfter.UTC().Format(time.RFC3339),
			"renewalTime": certificate.Spec.renewalOf(pair.certificate).UTC().Format(time.RFC3339)})
	}
	ready := Condition{Type: "Ready", Status: "False", Reason: reason, Message: message, ObservedGeneration: of.Generation}
	if reason == "Renewing" {
		ready = Condition{Type: "Ready", Status: "True", Reason: "Ready", Message: "Certificate is up to date and has not expired",
			ObservedGeneration: of.Generation}
	}
	conditions, changed := with(certificate.Status.Conditions, ready)
	conditions, more := with(conditions, Condition{Type: "Issuing", Status: "True", Reason: reason, Message: message, ObservedGeneration: of.Generation})
	if changed || more {
		incluster.Logf("Certificate %s/%s: %s", of.Namespace, of.Name, message)
		event("cert-manager-certificates-trigger", apiVersion, "Certificate", of, "Normal", "Issuing", message)
		if err := setStatus("certificates", of, object{"conditions": conditions}); err != nil {
			return err
		}
	}
	return state.issue(certificate, secret)
}

// issue brings the certificate's request one step further.
func (state *controller) issue(certificate Certificate, before *Secret) error {
	of, spec := certificate.Metadata, certificate.Spec
	name := fmt.Sprintf("%s-%d", of.Name, certificate.Status.Revision+1)
	path := certManager + "/namespaces/" + of.Namespace + "/certificaterequests"
	var request Request
	err := incluster.Call("GET", path+"/"+name, nil, "", &request)
	if incluster.Is(err, http.StatusNotFound) {
		return state.ask(certificate, before, path, name)
	}
	if err != nil {
		return err
	}
	if asked, err := parseRequest(request.Spec.Request); err != nil || request.Spec.IssuerRef != spec.IssuerRef ||
		!slices.Equal(asked.DNSNames, spec.DNSNames) || asked.Subject.CommonName != spec.CommonName {
		return deleteRequest(request.Metadata) // the spec changed meanwhile
	}
	if find(request.Status.Conditions, "Ready").Status != "True" {
		return nil
	}
	key, known := state.keys[request.Metadata.UID]
	if !known {
		return deleteRequest(request.Metadata)
	}
	text, err := keyText(key)
	if err != nil {
		return err
	}
	annotations := object{
		"cert-manager.io/alt-names": strings.Join(spec.DNSNames, ","), "cert-manager.io/certificate-name": of.Name,
		"cert-manager.io/common-name": spec.CommonName, "cert-manager.io/ip-sans": strings.Join(spec.IPAddresses, ","),
		"cert-manager.io/issuer-group": spec.IssuerRef.Group, "cert-manager.io/issuer-kind": spec.IssuerRef.Kind,
		"cert-manager.io/issuer-name": spec.IssuerRef.Name, "cert-manager.io/uri-sans": "",
	}
	err = incluster.Apply("cert-manager-certificates-issuing", "/api/v1/namespaces/"+of.Namespace+"/secrets/"+spec.SecretName, object{
		"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
		"metadata": object{"name": spec.SecretName, "namespace": of.Namespace, "annotations": annotations,
			"labels": object{"controller.cert-manager.io/fao": "true"}},
		"data": object{"tls.crt": request.Status.Certificate, "tls.key": text, "ca.crt": request.Status.CA},
	})
	if err != nil {
		return err
	}
	delete(state.keys, request.Metadata.UID)
	event("cert-manager-certificates-issuing", apiVersion, "Certificate", of, "Normal", "Issuing", "The certificate has been successfully issued")
	incluster.Logf("Certificate %s/%s: issued by %s", of.Namespace, of.Name, spec.IssuerRef.Name)
	return setStatus("certificates", of, object{"revision": certificate.Status.Revision + 1})
}

func (state *controller) ask(certificate Certificate, before *Secret, path, name string) error {
	of, spec := certificate.Metadata, certificate.Spec
	key, err := spec.newKey()
	if err == nil && before != nil && spec.PrivateKey.RotationPolicy == "Never" {
		if kept, broken := parseKey(before.Data["tls.key"]); broken == nil {
			key = kept
		}
	}
	if err != nil {
		return err
	}
	request, err := spec.request(key)
	if err != nil {
		return err
	}
	wanted := object{"request": request, "issuerRef": spec.IssuerRef, "isCA": spec.IsCA}
	if spec.Duration != "" {
		wanted["duration"] = spec.Duration
	}
	if len(spec.Usages) > 0 {
		wanted["usages"] = spec.Usages
	}
	var made Request
	err = incluster.Call("POST", path, object{
		"apiVersion": apiVersion, "kind": "CertificateRequest", "spec": wanted,
		"metadata": object{"name": name, "namespace": of.Namespace,
			"annotations": object{"cert-manager.io/certificate-name": of.Name, "cert-manager.io/certificate-revision": fmt.Sprint(certificate.Status.Revision + 1)},
			"ownerReferences": []any{object{"apiVersion": apiVersion, "kind": "Certificate", "name": of.Name, "uid": of.UID,
				"controller": true, "blockOwnerDeletion": true}}},
	}, "", &made)
	if err == nil {
		state.keys[made.Metadata.UID] = key
		event("cert-manager-certificates-request-manager", apiVersion, "Certificate", of, "Normal", "Requested",
			fmt.Sprintf("Created new CertificateRequest resource %q", name))
	}
	return err
}
