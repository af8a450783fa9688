package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

var httpClient = func() *http.Client {
	pool := x509.NewCertPool()
	if ca, err := os.ReadFile(account + "ca.crt"); err == nil {
		pool.AppendCertsFromPEM(ca)
	}
	return &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
}()

type apiError struct {
	status int
	text   string
}

func (e apiError) Error() string { return fmt.Sprintf("%d %s", e.status, e.text) }

// call speaks JSON to the cluster's API as the pod's service account. content "" means application/json.
func call(method, path string, body any, content string, answer any) error {
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
	response, err := httpClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return apiError{response.StatusCode, string(text)}
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}
