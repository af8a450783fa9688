package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"
)

type token struct{ caHash, user, secret string }

// parseToken reads both forms: a bare secret and K10<CA hash>::user:secret.
func parseToken(text, fallbackUser string) token {
	rest, long := strings.CutPrefix(text, "K10")
	hash, credentials, found := strings.Cut(rest, "::")
	if !long || !found {
		return token{"", fallbackUser, text}
	}
	user, secret, _ := strings.Cut(credentials, ":")
	return token{hash, user, secret}
}

func hostNames(items []string) (names []string) {
	for _, item := range items {
		if net.ParseIP(item) == nil && item != "" {
			names = append(names, item)
		}
	}
	return names
}

func addresses(items []string) (ips []string) {
	for _, item := range items {
		if net.ParseIP(item) != nil {
			ips = append(ips, item)
		}
	}
	return ips
}

// supervisor is what listens on *:6443: K3s' own endpoints, and everything else handed to the API server behind it.
type supervisor struct {
	config      Config
	secret      string
	agentSecret string
	api         http.Handler
}

func newSupervisor(config Config, secret string) *supervisor {
	s := &supervisor{config: config, secret: secret, agentSecret: secret}
	if agent := config.get("agent-token", ""); agent != "" {
		s.agentSecret = parseToken(agent, "node").secret
	}
	s.api = s.apiProxy()
	return s
}

func certPool(path string) *x509.CertPool {
	text, err := os.ReadFile(path)
	must(err, "reading "+path)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

// apiProxy authenticates client certificates itself and vouches for them to the API server by the request-header CA.
// Who shows none is passed on as they are: a token, or nobody, is the API server's own business.
func (s *supervisor) apiProxy() http.Handler {
	identity, err := tls.LoadX509KeyPair(tlsDir+"/client-auth-proxy.crt", tlsDir+"/client-auth-proxy.key")
	must(err, "loading the proxy's certificate")
	vouched, passed := proxyAs(identity), proxyAs()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.HasPrefix(http.CanonicalHeaderKey(name), "X-Remote-") {
				r.Header.Del(name)
			}
		}
		if len(r.TLS.PeerCertificates) == 0 {
			passed.ServeHTTP(w, r)
			return
		}
		who := r.TLS.PeerCertificates[0].Subject
		r.Header.Set("X-Remote-User", who.CommonName)
		r.Header["X-Remote-Group"] = append([]string{"system:authenticated"}, who.Organization...)
		r.Header.Del("Authorization")
		vouched.ServeHTTP(w, r)
	})
}

func proxyAs(identity ...tls.Certificate) http.Handler {
	target, _ := url.Parse(localAPI)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	proxy.Transport = &http.Transport{
		TLSClientConfig: &tls.Config{Certificates: identity, RootCAs: certPool(tlsDir + "/server-ca.crt")},
		DialContext:     (&net.Dialer{Timeout: 5 * time.Second}).DialContext, MaxIdleConnsPerHost: 200,
	}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, "apiserver not ready: "+err.Error(), http.StatusServiceUnavailable)
	}
	return proxy
}

func (s *supervisor) serve() {
	mux := http.NewServeMux()
	mux.Handle("/", s.api)
	mux.HandleFunc("/ping", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "pong") })
	mux.HandleFunc("/cacerts", func(w http.ResponseWriter, _ *http.Request) { sendFile(w, tlsDir+"/server-ca.crt") })
	mux.HandleFunc("/v1-k3s/server-bootstrap", s.guarded("server", s.bootstrap))
	mux.HandleFunc("/v1-k3s/etcd-member", s.guarded("server", s.addMember))
	mux.HandleFunc("/v1-k3s/etcd-promote", s.guarded("server", s.promoteMember))
	mux.HandleFunc("/v1-k3s/config", s.guarded("node", s.agentConfig))
	mux.HandleFunc("/v1-k3s/sign", s.guarded("node", s.signNode))
	server := &http.Server{
		Addr: ":" + apiPort, Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: certPool(tlsDir + "/client-ca.crt")},
		ErrorLog:  quietLog(),
	}
	must(server.ListenAndServeTLS(tlsDir+"/serving-kube-apiserver.crt", tlsDir+"/serving-kube-apiserver.key"), "listening on :"+apiPort)
}

// guarded admits the server's credentials everywhere, an agent's only where `level` is node.
func (s *supervisor) guarded(level string, next http.HandlerFunc) http.HandlerFunc {
	same := func(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
	return func(w http.ResponseWriter, r *http.Request) {
		user, secret, _ := r.BasicAuth()
		isServer := user == "server" && same(secret, s.secret)
		isNode := user == "node" && same(secret, s.agentSecret)
		switch {
		case isServer, isNode && level == "node":
			next(w, r)
		case isNode:
			http.Error(w, "not authorized: an agent token cannot join a server", http.StatusForbidden)
		default:
			http.Error(w, "not authorized", http.StatusUnauthorized)
		}
	}
}

func sendFile(w http.ResponseWriter, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write(text)
}

func sendJSON(w http.ResponseWriter, value any) { _ = json.NewEncoder(w).Encode(value) }

// bootstrap hands a joining server the CAs, the service-account key and the encryption configuration.
func (s *supervisor) bootstrap(w http.ResponseWriter, _ *http.Request) {
	files := map[string][]byte{}
	paths := []string{tlsDir + "/service.key", encryptionCfg, criticalFile}
	for _, name := range authorities {
		paths = append(paths, tlsDir+"/"+name+".crt", tlsDir+"/"+name+".key")
	}
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil {
			files[path] = text
		}
	}
	sendJSON(w, files)
}

// agentConfig is what an agent has to know of the cluster.
type agentConfig struct {
	ClusterCIDR, ServiceCIDR, ClusterDNS, ClusterDomain, FlannelBackend string
	Servers                                                             []string
	ClientCA                                                            []byte
}

func (s *supervisor) agentConfig(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	servers, err := votingAddresses(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	ca, err := os.ReadFile(tlsDir + "/client-ca.crt")
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	c := s.config
	sendJSON(w, agentConfig{c.get("cluster-cidr", "10.42.0.0/16"), c.get("service-cidr", "10.43.0.0/16"), c.clusterDNS(),
		c.get("cluster-domain", "cluster.local"), c.get("flannel-backend", "vxlan"), servers, ca})
}

// signNode signs the certificate of a node's component for the public key in the posted request.
func (s *supervisor) signNode(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	block, _ := pem.Decode(body)
	if err != nil || block == nil {
		http.Error(w, "not a certificate request", http.StatusBadRequest)
		return
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || request.CheckSignature() != nil {
		http.Error(w, "not a valid certificate request", http.StatusBadRequest)
		return
	}
	node, address := r.URL.Query().Get("node"), r.URL.Query().Get("ip")
	switch r.URL.Query().Get("for") {
	case "kubelet":
		if err := checkNodePassword(node, r.Header.Get("k3s-Node-Password")); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		_, _ = w.Write(loadAuthority("client-ca").sign(request.PublicKey, subject{"system:node:" + node, []string{"system:nodes"}, nil, nil}))
	case "kube-proxy":
		_, _ = w.Write(loadAuthority("client-ca").sign(request.PublicKey, subject{"system:kube-proxy", nil, nil, nil}))
	case "k3s-controller":
		_, _ = w.Write(loadAuthority("client-ca").sign(request.PublicKey, subject{"system:k3s-controller", nil, nil, nil}))
	case "serving-kubelet":
		_, _ = w.Write(loadAuthority("server-ca").sign(request.PublicKey, subject{node, nil, []string{node, "localhost"}, []string{"127.0.0.1", address}}))
	default:
		http.Error(w, "unknown certificate", http.StatusBadRequest)
	}
}

// --- the client's side

type client struct {
	base, user, secret string
	http               *http.Client
}

// connect fetches the CA of a server, checks it against the token and returns a client that trusts only it.
func connect(server, tokenText, user string) (client, []byte, error) {
	t := parseToken(tokenText, user)
	insecure := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	response, err := insecure.Get(server + "/cacerts")
	if err != nil {
		return client{}, nil, err
	}
	defer response.Body.Close()
	ca, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return client{}, nil, fmt.Errorf("%s/cacerts answered %s", server, response.Status)
	}
	if t.caHash != "" && t.caHash != caHash(ca) {
		fatal("token CA hash does not match the Cluster CA certificate hash: %s != %s", t.caHash, caHash(ca))
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	secure := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	return client{server, t.user, t.secret, secure}, ca, nil
}

func (c client) call(method, path string, body []byte) ([]byte, int, error) {
	request, err := http.NewRequest(method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	request.SetBasicAuth(c.user, c.secret)
	request.Header.Set("k3s-Node-Password", nodePassword())
	response, err := c.http.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(answer)))
	}
	return answer, response.StatusCode, err
}
