// Package incluster is what the lab's programs in pods share: a small client of the cluster's API, and how they log, wait
// and end. Only the standard library.
package incluster

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Object is any Kubernetes object, as JSON has it.
type Object = map[string]any

const (
	account    = "/var/run/secrets/kubernetes.io/serviceaccount/"
	MergePatch = "application/merge-patch+json"
)

var client = func() *http.Client {
	pool := x509.NewCertPool()
	if ca, err := os.ReadFile(account + "ca.crt"); err == nil {
		pool.AppendCertsFromPEM(ca)
	}
	return &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
}()

// Error is an answer of the API that is none of success; Text is the message of its Status object.
type Error struct {
	Status int
	Text   string
}

func (e Error) Error() string { return strconv.Itoa(e.Status) + " " + e.Text }

// Is says whether err is an answer of the API with this HTTP status.
func Is(err error, status int) bool {
	var answer Error
	return errors.As(err, &answer) && answer.Status == status
}

// Call speaks JSON to the cluster's API as the pod's service account. content "" means application/json.
func Call(method, path string, body any, content string, answer any) error {
	var stream io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		stream = bytes.NewReader(encoded)
	}
	address := "https://" + os.Getenv("KUBERNETES_SERVICE_HOST") + ":" + os.Getenv("KUBERNETES_SERVICE_PORT")
	request, err := http.NewRequest(method, address+path, stream)
	if err != nil {
		return err
	}
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	if content == "" {
		content = "application/json"
	}
	request.Header.Set("Content-Type", content)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		var status struct{ Message string }
		if json.Unmarshal(text, &status) != nil || status.Message == "" {
			status.Message = string(text)
		}
		return Error{response.StatusCode, status.Message}
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// Apply makes the object at this path what is wanted, by server-side apply.
func Apply(manager, path string, wanted any) error {
	return Call("PATCH", path+"?fieldManager="+manager+"&force=true", wanted, "application/apply-patch+yaml", nil)
}
