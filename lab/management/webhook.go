package main

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sort"
	"strings"
	"time"

	"gpuctl.lab/incluster"
)

const (
	webhookSecret = "cert-manager-webhook-ca"
	webhooks      = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/cert-manager-webhook"
	// injectionDelay is the time after an installation in which the API server does not trust the webhook yet
	injectionDelay = 5 * time.Second
)

// webhookCA is the certificate authority of the webhook, made once and kept in a Secret.
func webhookCA(namespace string) (*Pair, error) {
	secret, err := getSecret(namespace, webhookSecret)
	if incluster.Is(err, http.StatusNotFound) {
		spec := CertificateSpec{CommonName: "cert-manager-webhook-ca", IsCA: true, Duration: "8760h"}
		key, err := spec.newKey()
		if err != nil {
			return nil, err
		}
		text, err := signOwn(spec, nil, key)
		if err != nil {
			return nil, err
		}
		private, err := keyText(key)
		if err != nil {
			return nil, err
		}
		err = incluster.Call("POST", "/api/v1/namespaces/"+namespace+"/secrets", object{"apiVersion": "v1", "kind": "Secret",
			"metadata": object{"name": webhookSecret, "namespace": namespace},
			"data":     object{"tls.crt": text, "tls.key": private, "ca.crt": text}}, "", nil)
		if err != nil {
			return nil, err
		}
		return parsePair(text, private)
	}
	if err != nil {
		return nil, err
	}
	return parsePair(secret.Data["tls.crt"], secret.Data["tls.key"])
}

// signOwn makes a certificate for a key of one's own, signed by the issuer (nil: by itself).
func signOwn(spec CertificateSpec, issuer *Pair, key crypto.Signer) ([]byte, error) {
	request, err := spec.request(key)
	if err != nil {
		return nil, err
	}
	parsed, err := parseRequest(request)
	if err != nil {
		return nil, err
	}
	return sign(spec, parsed, issuer, key)
}

func runWebhook([]string) {
	namespace := os.Getenv("POD_NAMESPACE")
	var ca *Pair
	for ca == nil {
		found, err := webhookCA(namespace)
		if err != nil {
			incluster.Logf("error: %v", err)
			time.Sleep(time.Second)
		}
		ca = found
	}
	spec := CertificateSpec{DNSNames: []string{"cert-manager-webhook." + namespace + ".svc"}, Duration: "8760h", Usages: []string{"digital signature", "key encipherment", "server auth"}}
	key, err := spec.newKey()
	incluster.Must(err, "making a key")
	text, err := signOwn(spec, ca, key)
	incluster.Must(err, "signing")
	block, _ := pem.Decode(text)
	http.HandleFunc("/validate", validate)
	go func() {
		health := http.NewServeMux()
		for _, path := range []string{"/healthz", "/livez"} {
			health.HandleFunc(path, func(http.ResponseWriter, *http.Request) {})
		}
		incluster.Must((&http.Server{Addr: ":6080", Handler: health, ReadTimeout: 10 * time.Second}).ListenAndServe(), "serving health")
	}()
	server := http.Server{Addr: ":10250", ReadTimeout: 10 * time.Second, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}}}}
	incluster.Must(server.ListenAndServeTLS("", ""), "serving")
}

func validate(answer http.ResponseWriter, request *http.Request) {
	var review struct {
		Request struct {
			UID    string
			Kind   struct{ Kind string }
			Object json.RawMessage
		} `json:"request"`
	}
	if err := json.NewDecoder(request.Body).Decode(&review); err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}
	verdict := object{"uid": review.Request.UID, "allowed": true}
	if wrong := refusal(review.Request.Kind.Kind, review.Request.Object); wrong != "" {
		verdict["allowed"], verdict["status"] = false, object{"code": 403, "message": wrong}
	}
	answer.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(answer).Encode(object{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": verdict})
}

// refusal is what is wrong with an object, or "". What the lab does not know is wrong too.
func refusal(kind string, raw json.RawMessage) string {
	var outer struct{ Spec json.RawMessage }
	if err := json.Unmarshal(raw, &outer); err != nil {
		return err.Error()
	}
	strict := json.NewDecoder(bytes.NewReader(outer.Spec))
	strict.DisallowUnknownFields()
	switch kind {
	case "CertificateRequest":
		return ""
	case "Certificate":
		var spec CertificateSpec
		if err := strict.Decode(&spec); err != nil {
			return "spec: " + err.Error() + " (not part of the rehearsal lab)"
		}
		return refuseCertificate(spec)
	case "ClusterIssuer":
		var kinds map[string]json.RawMessage
		if err := strict.Decode(&kinds); err != nil {
			return "spec: " + err.Error()
		}
		var names []string
		for name := range kinds {
			names = append(names, name)
		}
		sort.Strings(names)
		if len(names) == 0 {
			return "spec: Required value: at least one issuer must be configured"
		}
		if len(names) > 1 {
			return fmt.Sprintf("spec.%s: Forbidden: may not specify more than one issuer type", names[1])
		}
		if !slices.Contains([]string{"selfSigned", "ca", "acme"}, names[0]) {
			return "spec." + names[0] + ": not part of the rehearsal lab"
		}
		var ca struct{ SecretName string }
		if names[0] == "ca" && (json.Unmarshal(kinds["ca"], &ca) != nil || ca.SecretName == "") {
			return "spec.ca.secretName: Required value"
		}
		return ""
	}
	return kind + ": not part of the rehearsal lab"
}

func refuseCertificate(spec CertificateSpec) string {
	var wrong []string
	if spec.SecretName == "" {
		wrong = append(wrong, "spec.secretName: Required value: must be specified")
	}
	if spec.IssuerRef.Name == "" {
		wrong = append(wrong, "spec.issuerRef.name: Required value: must be specified")
	}
	if !slices.Contains([]string{"", "Issuer", "ClusterIssuer"}, spec.IssuerRef.Kind) {
		wrong = append(wrong, "spec.issuerRef.kind: Invalid value: must be one of Issuer or ClusterIssuer")
	}
	if spec.CommonName == "" && len(spec.DNSNames) == 0 && len(spec.IPAddresses) == 0 {
		wrong = append(wrong, "spec: Invalid value: \"\": at least one of commonName (from the commonName field or from a literalSubject), dnsNames, uriSANs, ipAddresses, emailSANs or otherNames must be set")
	}
	if len(spec.CommonName) > 64 {
		wrong = append(wrong, "spec.commonName: Too long: may not be more than 64 bytes")
	}
	if life, err := spec.duration(); err != nil || life < time.Hour {
		wrong = append(wrong, "spec.duration: Invalid value: certificate duration must be greater than 1h0m0s")
	}
	for _, usage := range spec.Usages {
		if _, known := keyUsages[usage]; known {
			continue
		}
		if _, known := extendedUsages[usage]; !known {
			wrong = append(wrong, "spec.usages: "+usage+": not part of the rehearsal lab")
		}
	}
	return strings.Join(wrong, ", ")
}

// runInjector writes the webhook's authority into its registration, as the API server needs it. Until then every change of
// cert-manager's objects fails with the API server's own message.
func runInjector([]string) {
	time.Sleep(injectionDelay)
	incluster.Forever(time.Second, func() error {
		secret, err := getSecret(os.Getenv("POD_NAMESPACE"), webhookSecret)
		if err != nil {
			return err
		}
		var have struct {
			Webhooks []struct {
				ClientConfig struct{ CABundle []byte }
			}
		}
		if err := incluster.Call("GET", webhooks, nil, "", &have); err != nil {
			return err
		}
		var changes []any
		for i, webhook := range have.Webhooks {
			if !bytes.Equal(webhook.ClientConfig.CABundle, secret.Data["ca.crt"]) {
				changes = append(changes, object{"op": "add", "path": fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), "value": secret.Data["ca.crt"]})
			}
		}
		if len(changes) == 0 {
			return nil
		}
		incluster.Logf("the API server trusts the webhook now")
		return incluster.Call("PATCH", webhooks, changes, "application/json-patch+json", nil)
	})
}

// runStartupCheck waits until a certificate would be accepted; `check api --wait=DURATION`.
func runStartupCheck(arguments []string) {
	wait := time.Minute
	for _, argument := range arguments {
		if text, found := strings.CutPrefix(argument, "--wait="); found {
			given, err := time.ParseDuration(text)
			incluster.Must(err, argument)
			wait = given
		}
	}
	namespace := os.Getenv("POD_NAMESPACE")
	for end := time.Now().Add(wait); ; time.Sleep(time.Second) {
		err := incluster.Call("POST", certManager+"/namespaces/"+namespace+"/certificates?dryRun=All", object{
			"apiVersion": apiVersion, "kind": "Certificate", "metadata": object{"generateName": "cmapichecker-", "namespace": namespace},
			"spec": object{"dnsNames": []string{"cmapichecker.example"}, "secretName": "cmapichecker", "issuerRef": object{"name": "cmapichecker"}}}, "", nil)
		if err == nil {
			fmt.Println("The cert-manager API is ready")
			return
		}
		incluster.Logf("Not ready: %v", err)
		if time.Now().After(end) {
			incluster.Fatal("error: timed out waiting for the condition")
		}
	}
}
