package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gpuctl.lab/incluster"
)

// Everything that Rancher knows lies in the cluster, so that its replicas agree and a restart forgets nothing.
const (
	management = "/apis/management.cattle.io/v3"
	passwords  = "cattle-local-user-passwords"
	// adminLabel finds the user that the bootstrap password made
	adminLabel = "authz.management.cattle.io/bootstrapping"
)

type Setting struct {
	Metadata Meta
	Value    string
	Default  string
}

type User struct {
	Metadata           Meta
	Username           string
	DisplayName        string
	MustChangePassword bool
	Enabled            bool
	PrincipalIDs       []string
}

type Token struct {
	Metadata Meta
	Token    string
	UserID   string
	TTL      int64
}

// failure is an answer in the shape of Rancher's API.
type failure struct {
	status        int
	code, message string
}

func (f failure) Error() string { return f.message }

func runRancher(arguments []string) {
	known := map[string]bool{"--no-cacerts": true, "--http-listen-port=80": true, "--https-listen-port=443": true, "--add-local=true": true}
	for _, argument := range arguments {
		if !known[argument] {
			incluster.Fatal("%s: not part of the rehearsal lab", argument)
		}
	}
	for {
		err := prepare()
		if err == nil {
			break
		}
		incluster.Logf("error: %v", err)
		time.Sleep(time.Second)
	}
	go incluster.Forever(10*time.Second, reportCluster)
	go incluster.Forever(time.Second, holdNamespaces)
	go bringFleet("/fleet.json")
	go func() { incluster.Must(serveOwnTLS(), "serving TLS") }()
	server := http.Server{Addr: ":80", Handler: http.HandlerFunc(insistOnTLS), ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second}
	incluster.Logf("Listening on :80")
	incluster.Must(server.ListenAndServe(), "serving")
}

// insistOnTLS answers probes, and everything else only to who came by TLS as the ingress says in X-Forwarded-Proto.
func insistOnTLS(answer http.ResponseWriter, request *http.Request) {
	if request.URL.Path != "/healthz" && request.URL.Path != "/ping" && request.Header.Get("X-Forwarded-Proto") != "https" {
		http.Redirect(answer, request, "https://"+request.Host+request.URL.RequestURI(), http.StatusFound)
		return
	}
	handle(answer, request)
}

// serveOwnTLS is the port 444 that Rancher's own agents use, with a certificate of its own making.
func serveOwnTLS() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	text, err := signOwn(CertificateSpec{DNSNames: []string{"rancher." + os.Getenv("CATTLE_NAMESPACE")}, Duration: "8760h"}, nil, key)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	server := http.Server{Addr: ":444", Handler: http.HandlerFunc(handle), ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}}}}
	return server.ListenAndServeTLS("", "")
}

// create makes the object unless it is there already, for instance by another replica.
func create(collection string, wanted object) error {
	err := incluster.Call("POST", collection, wanted, "", nil)
	if incluster.Is(err, http.StatusConflict) {
		return nil
	}
	return err
}

// prepare makes what a first start makes: settings, the cluster, the administrator with the bootstrap password.
func prepare() error {
	// the authority of the ingress' certificate, where the chart says that it is a private one
	authority, err := os.ReadFile("/etc/rancher/ssl/cacerts.pem")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for name, standard := range map[string]string{"server-url": "", "first-login": "true", "password-min-length": "12", "cacerts": string(authority),
		"server-version": os.Getenv("CATTLE_SERVER_VERSION"), "auth-user-session-ttl-minutes": "960"} {
		if err := create(management+"/settings", object{"apiVersion": "management.cattle.io/v3", "kind": "Setting",
			"metadata": object{"name": name}, "default": standard, "value": "", "customized": false, "source": ""}); err != nil {
			return err
		}
	}
	namespaces := "/api/v1/namespaces"
	if err := create(namespaces, object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": passwords}}); err != nil {
		return err
	}
	if err := create(management+"/clusters", object{"apiVersion": "management.cattle.io/v3", "kind": "Cluster",
		"metadata": object{"name": "local"}, "spec": object{"displayName": "local", "internal": true}}); err != nil {
		return err
	}
	if err := reportCluster(); err != nil {
		return err
	}
	var admins struct{ Items []User }
	if err := incluster.Call("GET", management+"/users?labelSelector="+url.QueryEscape(adminLabel+"=admin-user"), nil, "", &admins); err != nil {
		return err
	}
	if len(admins.Items) > 0 {
		return nil // the bootstrap password counts once
	}
	password, err := bootstrapPassword()
	if err != nil {
		return err
	}
	var system struct{ Metadata Meta }
	if err := incluster.Call("GET", namespaces+"/kube-system", nil, "", &system); err != nil {
		return err
	}
	// the same name from every replica, so that there is one administrator
	id := fmt.Sprintf("user-%05x", hash(system.Metadata.UID)&0xfffff)
	if err := setPassword(id, password, false); err != nil {
		return err
	}
	incluster.Logf("administrator admin is %s", id)
	return create(management+"/users", object{"apiVersion": "management.cattle.io/v3", "kind": "User", "username": "admin",
		"displayName": "Default Admin", "mustChangePassword": true, "enabled": true, "principalIds": []string{"local://" + id},
		"metadata": object{"name": id, "labels": object{adminLabel: "admin-user"}}})
}

// bootstrapPassword is what bootstrap-secret holds; without one it is made up, and kept there.
func bootstrapPassword() (string, error) {
	namespace := os.Getenv("CATTLE_NAMESPACE")
	secret, err := getSecret(namespace, "bootstrap-secret")
	if err == nil {
		if password := string(secret.Data["bootstrapPassword"]); password != "" {
			return password, nil
		}
		return "", errors.New("bootstrap-secret holds no bootstrapPassword")
	}
	if !incluster.Is(err, http.StatusNotFound) {
		return "", err
	}
	err = create("/api/v1/namespaces/"+namespace+"/secrets", object{"apiVersion": "v1", "kind": "Secret",
		"metadata": object{"name": "bootstrap-secret", "namespace": namespace}, "stringData": object{"bootstrapPassword": random(27)}})
	if err != nil {
		return "", err
	}
	return bootstrapPassword()
}

func random(bytes int) string {
	text := make([]byte, bytes)
	_, _ = rand.Read(text)
	return hex.EncodeToString(text)[:bytes]
}

// reportCluster keeps the conditions of the cluster `local`.
func reportCluster() error {
	var cluster struct {
		Status struct{ Conditions []Condition }
	}
	if err := incluster.Call("GET", management+"/clusters/local", nil, "", &cluster); err != nil {
		return err
	}
	var version struct{ GitVersion string }
	ready := Condition{Type: "Ready", Status: "True"}
	if err := incluster.Call("GET", "/version", nil, "", &version); err != nil {
		ready = Condition{Type: "Ready", Status: "False", Reason: "Error", Message: err.Error()}
	}
	conditions, changed := with(cluster.Status.Conditions, ready)
	conditions, more := with(conditions, Condition{Type: "Connected", Status: "True"})
	if !changed && !more {
		return nil
	}
	return incluster.Call("PATCH", management+"/clusters/local/status", object{"status": object{"conditions": conditions, "driver": "k3s",
		"version": object{"gitVersion": version.GitVersion}}}, incluster.MergePatch, nil)
}

// holdNamespaces puts Rancher's finalizer on every namespace, and takes it off those that are to go: without a Rancher
// that does so they stay for ever.
func holdNamespaces() error {
	const finalizer, collection = "controller.cattle.io/namespace-auth", "/api/v1/namespaces"
	var found struct {
		Items []struct {
			Metadata struct {
				Name, ResourceVersion, DeletionTimestamp string
				Finalizers                               []string
			}
		}
	}
	if err := incluster.Call("GET", collection, nil, "", &found); err != nil {
		return err
	}
	var failed error
	for _, item := range found.Items {
		of := item.Metadata
		held, leaving := slices.Contains(of.Finalizers, finalizer), of.DeletionTimestamp != ""
		if held != leaving {
			continue
		}
		wanted := append(slices.Clone(of.Finalizers), finalizer)
		if leaving {
			wanted = slices.DeleteFunc(slices.Clone(of.Finalizers), func(name string) bool { return name == finalizer })
		}
		err := incluster.Call("PATCH", collection+"/"+of.Name, object{"metadata": object{"finalizers": wanted, "resourceVersion": of.ResourceVersion}},
			incluster.MergePatch, nil)
		if err != nil && !incluster.Is(err, http.StatusConflict) && !incluster.Is(err, http.StatusNotFound) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// setPassword keeps a hash of the password; replace false leaves one that is there.
func setPassword(user, password string, replace bool) error {
	salt := []byte(random(32))
	sum, err := pbkdf2.Key(sha3.New512, password, salt, 210000, 64)
	if err != nil {
		return err
	}
	secret := object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": user, "namespace": passwords,
		"annotations": object{"cattle.io/password-hash": "pbkdf2sha3512"}}, "data": object{"password": sum, "salt": salt}}
	if replace {
		return incluster.Apply("rancher", "/api/v1/namespaces/"+passwords+"/secrets/"+user, secret)
	}
	return create("/api/v1/namespaces/"+passwords+"/secrets", secret)
}

func checkPassword(user, password string) (bool, error) {
	secret, err := getSecret(passwords, user)
	if err != nil {
		return false, err
	}
	sum, err := pbkdf2.Key(sha3.New512, password, secret.Data["salt"], 210000, 64)
	return err == nil && subtle.ConstantTimeCompare(sum, secret.Data["password"]) == 1, err
}

func setting(name string) (string, error) {
	var found Setting
	err := incluster.Call("GET", management+"/settings/"+name, nil, "", &found)
	if found.Value == "" {
		return found.Default, err
	}
	return found.Value, err
}

// handle answers one request; whatever is not here is refused, not made up.
func handle(answer http.ResponseWriter, request *http.Request) {
	status, body, err := route(answer, request)
	var wrong failure
	var refused incluster.Error
	switch {
	case err == nil:
	case errors.As(err, &wrong):
		status, body = wrong.status, object{"type": "error", "baseType": "error", "status": wrong.status, "code": wrong.code, "message": wrong.message}
	case errors.As(err, &refused) && refused.Status == http.StatusNotFound:
		status, body = http.StatusNotFound, object{"type": "error", "baseType": "error", "status": 404, "code": "NotFound", "message": "not found"}
	default:
		incluster.Logf("error: %s %s: %v", request.Method, request.URL.Path, err)
		status, body = http.StatusInternalServerError, object{"type": "error", "baseType": "error", "status": 500, "code": "ServerError", "message": err.Error()}
	}
	if text, plain := body.(string); plain {
		answer.WriteHeader(status)
		_, _ = answer.Write([]byte(text))
		return
	}
	answer.Header().Set("Content-Type", "application/json")
	answer.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(answer).Encode(body)
	}
}

func route(answer http.ResponseWriter, request *http.Request) (int, any, error) {
	path, action := strings.TrimSuffix(request.URL.Path, "/"), request.URL.Query().Get("action")
	switch request.Method + " " + path {
	case "GET /healthz":
		return http.StatusOK, "ok", nil
	case "GET /ping":
		return http.StatusOK, "pong", nil
	case "GET ":
		http.Redirect(answer, request, "/dashboard/", http.StatusFound)
		return http.StatusFound, "", nil
	case "GET /dashboard":
		return http.StatusOK, "<!DOCTYPE html><title>Rancher</title><p>The rehearsal lab's stand-in has no user interface.", nil
	case "GET /v3/settings/cacerts", "GET /v3/settings/first-login": // open to everybody, as the real ones
		return getSetting(request, path)
	case "POST /v3-public/localProviders/local":
		if action != "login" {
			return 0, nil, failure{http.StatusNotFound, "ActionNotAvailable", "action not available"}
		}
		return login(answer, request)
	}
	user, token, err := authenticate(request)
	if err != nil {
		return 0, nil, err
	}
	parts := strings.Split(strings.TrimPrefix(path, "/v3/"), "/")
	switch {
	case !strings.HasPrefix(path, "/v3/"):
	case request.Method == "GET" && parts[0] == "settings" && len(parts) == 2:
		return getSetting(request, path)
	case request.Method == "PUT" && parts[0] == "settings" && len(parts) == 2:
		return putSetting(request, path, parts[1])
	case request.Method == "GET" && path == "/v3/clusters":
		cluster, err := getCluster(request)
		return http.StatusOK, object{"type": "collection", "resourceType": "cluster", "data": []any{cluster}}, err
	case request.Method == "GET" && path == "/v3/clusters/local":
		cluster, err := getCluster(request)
		return http.StatusOK, cluster, err
	case request.Method == "GET" && path == "/v3/users" && request.URL.Query().Get("me") == "true":
		return http.StatusOK, object{"type": "collection", "resourceType": "user", "data": []any{userObject(user)}}, nil
	case request.Method == "POST" && path == "/v3/users" && action == "changepassword":
		return changePassword(request, user)
	case request.Method == "POST" && path == "/v3/tokens" && action == "logout":
		return http.StatusOK, nil, incluster.Call("DELETE", management+"/tokens/"+token, nil, "", nil)
	}
	return 0, nil, failure{http.StatusNotFound, "NotFound", request.Method + " " + request.URL.RequestURI() + ": not part of the rehearsal lab"}
}

func read(request *http.Request, into any) error {
	if err := json.NewDecoder(http.MaxBytesReader(nil, request.Body, 1<<20)).Decode(into); err != nil {
		return failure{http.StatusUnprocessableEntity, "InvalidBodyContent", err.Error()}
	}
	return nil
}

func userObject(user User) object {
	return object{"type": "user", "baseType": "user", "id": user.Metadata.Name, "username": user.Username, "name": user.DisplayName,
		"enabled": user.Enabled, "me": true, "mustChangePassword": user.MustChangePassword, "principalIds": user.PrincipalIDs, "state": "active"}
}

func login(answer http.ResponseWriter, request *http.Request) (int, any, error) {
	var asked struct{ Username, Password, Description, ResponseType string }
	if err := read(request, &asked); err != nil {
		return 0, nil, err
	}
	denied := failure{http.StatusUnauthorized, "Unauthorized", "authentication failed"}
	var users struct{ Items []User }
	if err := incluster.Call("GET", management+"/users", nil, "", &users); err != nil {
		return 0, nil, err
	}
	for _, user := range users.Items {
		if user.Username != asked.Username || !user.Enabled {
			continue
		}
		right, err := checkPassword(user.Metadata.Name, asked.Password)
		if err != nil {
			return 0, nil, err
		}
		if !right {
			break
		}
		return newToken(answer, user, asked.Description, asked.ResponseType)
	}
	return 0, nil, denied
}

func newToken(answer http.ResponseWriter, user User, description, kind string) (int, any, error) {
	minutes, err := setting("auth-user-session-ttl-minutes")
	if err != nil {
		return 0, nil, err
	}
	life, err := strconv.ParseInt(minutes, 10, 64)
	if err != nil {
		return 0, nil, err
	}
	name, secret := "token-"+random(5), random(54)
	made := object{"apiVersion": "management.cattle.io/v3", "kind": "Token", "authProvider": "local", "description": description,
		"token": fingerprint(secret), "ttl": life * 60000, "userId": user.Metadata.Name, "current": false, "expired": false, "isDerived": false,
		"metadata": object{"name": name, "labels": object{"authn.management.cattle.io/token-userId": user.Metadata.Name}}}
	var stored struct {
		Metadata struct{ CreationTimestamp, UID string }
	}
	if err := incluster.Call("POST", management+"/tokens", made, "", &stored); err != nil {
		return 0, nil, err
	}
	if kind == "cookie" {
		http.SetCookie(answer, &http.Cookie{Name: "R_SESS", Value: name + ":" + secret, Secure: true, HttpOnly: true, Path: "/"})
		return http.StatusOK, nil, nil
	}
	return http.StatusCreated, object{"type": "token", "baseType": "token", "id": name, "name": name, "token": name + ":" + secret, "authProvider": "local",
		"created": stored.Metadata.CreationTimestamp, "uuid": stored.Metadata.UID, "description": description, "ttl": life * 60000,
		"userId": user.Metadata.Name, "current": false, "expired": false, "enabled": true, "isDerived": false}, nil
}

func fingerprint(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// authenticate finds the user and the name of a bearer token, or of the same by HTTP's basic method. Cookies are for browsers only.
func authenticate(request *http.Request) (User, string, error) {
	var user User
	denied := failure{http.StatusUnauthorized, "Unauthorized", "must authenticate"}
	name, secret, given := request.BasicAuth()
	if bearer, found := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer "); found {
		name, secret, given = strings.Cut(bearer, ":")
	}
	if !given || !strings.HasPrefix(name, "token-") || strings.Contains(name, "/") {
		return user, name, denied
	}
	var token struct {
		Token
		Metadata struct{ CreationTimestamp time.Time }
	}
	err := incluster.Call("GET", management+"/tokens/"+url.PathEscape(name), nil, "", &token)
	if incluster.Is(err, http.StatusNotFound) {
		return user, name, denied
	}
	if err != nil {
		return user, name, err
	}
	expired := token.TTL > 0 && time.Since(token.Metadata.CreationTimestamp) > time.Duration(token.TTL)*time.Millisecond
	if expired || subtle.ConstantTimeCompare([]byte(token.Token.Token), []byte(fingerprint(secret))) != 1 {
		return user, name, denied
	}
	err = incluster.Call("GET", management+"/users/"+token.UserID, nil, "", &user)
	return user, name, err
}

func getSetting(request *http.Request, path string) (int, any, error) {
	var found Setting
	if err := incluster.Call("GET", management+strings.TrimPrefix(path, "/v3"), nil, "", &found); err != nil {
		return 0, nil, err
	}
	value, customized := found.Value, found.Value != ""
	if !customized {
		value = found.Default
	}
	return http.StatusOK, object{"type": "setting", "baseType": "setting", "id": found.Metadata.Name, "name": found.Metadata.Name, "value": value,
		"default": found.Default, "customized": customized, "links": object{"self": "https://" + request.Host + path}}, nil
}

func putSetting(request *http.Request, path, name string) (int, any, error) {
	var asked struct{ Value *string }
	if err := read(request, &asked); err != nil {
		return 0, nil, err
	}
	if asked.Value == nil {
		return 0, nil, failure{http.StatusUnprocessableEntity, "MissingRequired", "missing value"}
	}
	if name != "server-url" {
		return 0, nil, failure{http.StatusMethodNotAllowed, "MethodNotAllowed", "setting " + name + ": not part of the rehearsal lab"}
	}
	if address, err := url.Parse(*asked.Value); err != nil || address.Scheme != "https" || address.Host == "" {
		return 0, nil, failure{http.StatusUnprocessableEntity, "InvalidBodyContent", "server-url must be an https URL"}
	}
	if err := incluster.Call("PATCH", management+"/settings/"+name, object{"value": *asked.Value, "customized": true}, incluster.MergePatch, nil); err != nil {
		return 0, nil, err
	}
	return getSetting(request, path)
}

func changePassword(request *http.Request, user User) (int, any, error) {
	var asked struct{ CurrentPassword, NewPassword string }
	if err := read(request, &asked); err != nil {
		return 0, nil, err
	}
	invalid := func(message string) (int, any, error) {
		return 0, nil, failure{http.StatusUnprocessableEntity, "InvalidBodyContent", message}
	}
	least, err := setting("password-min-length")
	if err != nil {
		return 0, nil, err
	}
	minimum, err := strconv.Atoi(least)
	if err != nil {
		return 0, nil, err
	}
	switch {
	case asked.CurrentPassword == "":
		return invalid("must specify current password")
	case asked.NewPassword == "":
		return invalid("invalid new password")
	case utf8.RuneCountInString(asked.NewPassword) < minimum:
		return invalid(fmt.Sprintf("Password must be at least %d characters", minimum))
	case asked.NewPassword == user.Username:
		return invalid("Password cannot be the same as username")
	case asked.NewPassword == asked.CurrentPassword:
		return invalid("The new password must not be the same as the current password")
	}
	right, err := checkPassword(user.Metadata.Name, asked.CurrentPassword)
	if err != nil {
		return 0, nil, err
	}
	if !right {
		return invalid("invalid current password")
	}
	if err := setPassword(user.Metadata.Name, asked.NewPassword, true); err != nil {
		return 0, nil, err
	}
	if err := incluster.Call("PATCH", management+"/users/"+user.Metadata.Name, object{"mustChangePassword": false}, incluster.MergePatch, nil); err != nil {
		return 0, nil, err
	}
	err = incluster.Call("PATCH", management+"/settings/first-login", object{"value": "false", "customized": true}, incluster.MergePatch, nil)
	return http.StatusOK, nil, err
}

func getCluster(request *http.Request) (object, error) {
	var cluster struct {
		Spec   struct{ DisplayName string }
		Status struct {
			Conditions []Condition
			Version    struct {
				GitVersion string `json:"gitVersion"`
			}
		}
	}
	if err := incluster.Call("GET", management+"/clusters/local", nil, "", &cluster); err != nil {
		return nil, err
	}
	state := "unavailable"
	if find(cluster.Status.Conditions, "Ready").Status == "True" {
		state = "active"
	}
	return object{"type": "cluster", "baseType": "cluster", "id": "local", "name": cluster.Spec.DisplayName, "internal": true, "state": state,
		"transitioning": "no", "conditions": cluster.Status.Conditions, "version": cluster.Status.Version,
		"links": object{"self": "https://" + request.Host + "/v3/clusters/local"}}, nil
}
