package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	serverDir     = dataDir + "/server"
	apiPort       = "6443"
	localAPI      = "https://127.0.0.1:6444"
	adminConfig   = serverDir + "/cred/admin.kubeconfig"
	encryptionCfg = serverDir + "/cred/encryption-config.json"
	criticalFile  = serverDir + "/cred/critical.json"
)

func runServer(config Config) {
	must(os.MkdirAll(serverDir+"/tls/etcd", 0o700), "making "+serverDir)
	hasData := exists(etcdDir + "/member")
	join := config.get("server", "")
	var member *membership
	switch {
	case hasData:
		logf("info", "etcd data exists: cluster-init and server are ignored")
	case join != "":
		member = joinServers(config, join)
	case config.on("cluster-init"):
		makeAuthorities()
		makeEncryption(config)
	default:
		fatal("neither cluster-init nor server is set: the rehearsal lab has no other datastore than embedded etcd")
	}
	secret := serverSecret(config)
	writeTokens(config, secret)
	checkCritical(config)
	issueServerCertificates(config)
	kubeconfig(adminConfig, localAPI, tlsDir+"/client-admin", 0o600)

	processes := newChildren()
	supervisor := newSupervisor(config, secret)
	startEtcd(processes, config, member)
	go supervisor.serve() // peers join and promote through it, also while the API is not up yet
	promoteSelf(config)
	startControlPlane(processes, config)
	until(3*time.Minute, "waiting for the API server", apiAnswers("/readyz"))
	writeUserKubeconfig(config)
	applyManifests(config)
	go supervisor.keepServers()
	go scheduleSnapshots(config)
	startNode(processes, config, nodeAccess{api: localAPI, supervisor: "https://127.0.0.1:" + apiPort, user: "server", secret: secret})
	notifyReady()
	logf("info", "k3s is up and running")
	processes.wait()
}

func kubectlAdmin(arguments ...string) (string, error) {
	command := exec.Command("/proc/self/exe", append([]string{"kubectl", "--request-timeout=10s"}, arguments...)...)
	command.Env = append(os.Environ(), "KUBECONFIG="+adminConfig)
	output, err := command.CombinedOutput()
	return string(output), err
}

// apiAnswers is the condition that the API server answers this path with 200; its error has what it said.
func apiAnswers(path string) func() error {
	client := kubernetesClient(adminConfig).RESTClient()
	return func() error {
		said, err := client.Get().AbsPath(path).DoRaw(context.Background())
		if err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(said)))
		}
		return nil
	}
}

// serverSecret is the password part of the token; a new cluster without one makes its own, as K3s does.
func serverSecret(config Config) string {
	if given := config.get("token", ""); given != "" {
		return parseToken(given, "server").secret
	}
	if text, err := os.ReadFile(serverDir + "/token"); err == nil {
		return parseToken(strings.TrimSpace(string(text)), "server").secret
	}
	random := make([]byte, 16)
	_, err := rand.Read(random)
	must(err, "making a token")
	return hex.EncodeToString(random)
}

func writeTokens(config Config, secret string) {
	ca, err := os.ReadFile(tlsDir + "/server-ca.crt")
	must(err, "reading the server CA")
	prefix := "K10" + caHash(ca) + "::"
	if given := parseToken(config.get("token", secret), "server"); given.caHash != "" && given.caHash != caHash(ca) {
		fatal("token CA hash does not match the Cluster CA certificate hash: %s != %s", given.caHash, caHash(ca))
	}
	writeFile(serverDir+"/token", []byte(prefix+"server:"+secret+"\n"), 0o600)
	_ = os.Remove(serverDir + "/node-token")
	must(os.Symlink(serverDir+"/token", serverDir+"/node-token"), "linking node-token")
	if agent := config.get("agent-token", ""); agent != "" {
		writeFile(serverDir+"/agent-token", []byte(prefix+"node:"+parseToken(agent, "node").secret+"\n"), 0o600)
	}
}

// makeEncryption writes the provider configuration of a new cluster; joining servers are given the file.
func makeEncryption(config Config) {
	if !config.on("secrets-encryption") || exists(encryptionCfg) {
		return
	}
	key := make([]byte, 32)
	_, err := rand.Read(key)
	must(err, "making an encryption key")
	writeFile(encryptionCfg, []byte(fmt.Sprintf(`{"kind":"EncryptionConfiguration","apiVersion":"apiserver.config.k8s.io/v1",`+
		`"resources":[{"resources":["secrets"],"providers":[{"aescbc":{"keys":[{"name":"aescbckey","secret":%q}]}},{"identity":{}}]}]}`,
		encode64(key))), 0o600)
}

// checkCritical refuses settings that differ from those the cluster was made with.
func checkCritical(config Config) {
	mine := config.critical()
	text, err := os.ReadFile(criticalFile)
	if os.IsNotExist(err) {
		text, err = json.Marshal(mine)
		must(err, "encoding the critical settings")
		writeFile(criticalFile, text, 0o600)
		return
	}
	must(err, "reading "+criticalFile)
	refuseDifferent(mine, text)
}

func refuseDifferent(mine map[string]string, text []byte) {
	var theirs map[string]string
	must(json.Unmarshal(text, &theirs), "parsing the critical settings")
	var different []string
	for key, value := range mine {
		if theirs[key] != value {
			different = append(different, key)
		}
	}
	if len(different) > 0 {
		slices.Sort(different)
		fatal("failed to validate server configuration: critical configuration value mismatch between servers: %s", strings.Join(different, ", "))
	}
}

func issueServerCertificates(config Config) {
	serving, client := loadAuthority("server-ca"), loadAuthority("client-ca")
	node, address := config.nodeName(), config.nodeIP()
	names := append([]string{node, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc." + config.get("cluster-domain", "cluster.local")}, hostNames(config.list("tls-san"))...)
	ips := append([]string{"127.0.0.1", address, offset(config.get("service-cidr", "10.43.0.0/16"), 1)}, addresses(config.list("tls-san"))...)
	serving.issue(tlsDir+"/serving-kube-apiserver", subject{"kube-apiserver", nil, names, ips})
	client.issue(tlsDir+"/client-admin", subject{"system:admin", []string{"system:masters"}, nil, nil})
	client.issue(tlsDir+"/client-controller", subject{"system:kube-controller-manager", nil, nil, nil})
	client.issue(tlsDir+"/client-scheduler", subject{"system:kube-scheduler", nil, nil, nil})
	client.issue(tlsDir+"/client-kube-apiserver", subject{"system:apiserver", []string{"system:masters"}, nil, nil})
	loadAuthority("request-header-ca").issue(tlsDir+"/client-auth-proxy", subject{"system:auth-proxy", nil, nil, nil})
	etcdNames, etcdIPs := []string{"localhost", node}, []string{"127.0.0.1", address}
	loadAuthority("etcd/server-ca").issue(tlsDir+"/etcd/server-client", subject{"etcd-server", nil, etcdNames, etcdIPs})
	loadAuthority("etcd/server-ca").issue(tlsDir+"/etcd/client", subject{"etcd-client", nil, nil, nil})
	loadAuthority("etcd/peer-ca").issue(tlsDir+"/etcd/peer-server-client", subject{"etcd-peer", nil, etcdNames, etcdIPs})
}

func startControlPlane(processes *children, config Config) {
	t := tlsDir
	arguments := []string{
		"--etcd-servers=https://127.0.0.1:2379", "--etcd-cafile=" + t + "/etcd/server-ca.crt",
		"--etcd-certfile=" + t + "/etcd/client.crt", "--etcd-keyfile=" + t + "/etcd/client.key",
		"--bind-address=127.0.0.1", "--secure-port=6444", "--advertise-address=" + config.nodeIP(),
		// the API server would publish its own port, which is not the one that is served: see publishServers
		"--endpoint-reconciler-type=none", "--anonymous-auth=false", "--client-ca-file=" + t + "/client-ca.crt",
		"--tls-cert-file=" + t + "/serving-kube-apiserver.crt", "--tls-private-key-file=" + t + "/serving-kube-apiserver.key",
		"--kubelet-client-certificate=" + t + "/client-kube-apiserver.crt", "--kubelet-client-key=" + t + "/client-kube-apiserver.key",
		"--kubelet-certificate-authority=" + t + "/server-ca.crt", "--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file=" + t + "/request-header-ca.crt", "--requestheader-allowed-names=system:auth-proxy",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User", "--proxy-client-cert-file=" + t + "/client-auth-proxy.crt",
		"--proxy-client-key-file=" + t + "/client-auth-proxy.key", "--service-account-key-file=" + t + "/service.key",
		"--service-account-signing-key-file=" + t + "/service.key",
		"--service-account-issuer=https://kubernetes.default.svc." + config.get("cluster-domain", "cluster.local"),
		"--api-audiences=https://kubernetes.default.svc." + config.get("cluster-domain", "cluster.local") + ",k3s",
		"--service-cluster-ip-range=" + config.get("service-cidr", "10.43.0.0/16"), "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", "--profiling=false",
	}
	if exists(encryptionCfg) {
		arguments = append(arguments, "--encryption-provider-config="+encryptionCfg)
	}
	processes.start("kube-apiserver", append(arguments, dashed(config.list("kube-apiserver-arg"))...)...)
	until(3*time.Minute, "waiting for the API server to listen", apiAnswers("/livez"))
	for name, cert := range map[string]string{"controller": "client-controller", "scheduler": "client-scheduler"} {
		kubeconfig(serverDir+"/cred/"+name+".kubeconfig", localAPI, tlsDir+"/"+cert, 0o600)
	}
	processes.start("kube-controller-manager", "--kubeconfig="+serverDir+"/cred/controller.kubeconfig",
		"--authentication-kubeconfig="+serverDir+"/cred/controller.kubeconfig", "--authorization-kubeconfig="+serverDir+"/cred/controller.kubeconfig",
		"--cluster-signing-cert-file="+t+"/client-ca.crt", "--cluster-signing-key-file="+t+"/client-ca.key",
		"--root-ca-file="+t+"/server-ca.crt", "--service-account-private-key-file="+t+"/service.key",
		"--use-service-account-credentials=true", "--leader-elect=true", "--bind-address=127.0.0.1", "--allocate-node-cidrs=true",
		"--cluster-cidr="+config.get("cluster-cidr", "10.42.0.0/16"), "--service-cluster-ip-range="+config.get("service-cidr", "10.43.0.0/16"),
		"--configure-cloud-routes=false", "--profiling=false")
	processes.start("kube-scheduler", "--kubeconfig="+serverDir+"/cred/scheduler.kubeconfig",
		"--authentication-kubeconfig="+serverDir+"/cred/scheduler.kubeconfig", "--authorization-kubeconfig="+serverDir+"/cred/scheduler.kubeconfig",
		"--leader-elect=true", "--bind-address=127.0.0.1", "--profiling=false")
}

func dashed(arguments []string) []string {
	var all []string
	for _, argument := range arguments {
		if argument != "" {
			all = append(all, "--"+strings.TrimLeft(argument, "-"))
		}
	}
	return all
}

func writeUserKubeconfig(config Config) {
	var mode os.FileMode
	_, err := fmt.Sscanf(config.get("write-kubeconfig-mode", "0600"), "%o", &mode)
	must(err, "parsing write-kubeconfig-mode")
	kubeconfig("/etc/rancher/k3s/k3s.yaml", "https://127.0.0.1:"+apiPort, tlsDir+"/client-admin", mode)
}

func tokenCommand(arguments []string) {
	text, err := os.ReadFile(serverDir + "/token")
	must(err, "reading the token")
	if len(arguments) > 0 {
		fatal("k3s token %s: not part of the rehearsal lab", arguments[0])
	}
	fmt.Print(string(text))
}

func secretsEncryptCommand(arguments []string) {
	if len(arguments) != 1 || arguments[0] != "status" {
		fatal("k3s secrets-encrypt: only status is part of the rehearsal lab")
	}
	if !exists(encryptionCfg) {
		fmt.Println("Encryption Status: Disabled, no configuration file found")
		return
	}
	fmt.Println("Encryption Status: Enabled\nCurrent Rotation Stage: start\n\nActive  Key Type  Name\n------  --------  ----\n *      AES-CBC   aescbckey")
}

// applyManifests writes the packaged manifests and applies everything in server/manifests, at every start as K3s does.
func applyManifests(config Config) {
	folder := serverDir + "/manifests"
	must(os.MkdirAll(folder, 0o700), "making "+folder)
	disabled := config.list("disable")
	for name, text := range manifests(config) {
		if slices.Contains(disabled, name) {
			_ = os.Remove(filepath.Join(folder, name+".yaml"))
			continue
		}
		writeFile(filepath.Join(folder, name+".yaml"), []byte(text), 0o600)
	}
	for _, name := range words("servicelb traefik metrics-server") {
		if !slices.Contains(disabled, name) {
			logf("warning", "the packaged component %s is not part of the rehearsal lab", name)
		}
	}
	until(2*time.Minute, "applying the packaged manifests", func() error {
		files, _ := filepath.Glob(folder + "/*.yaml")
		if len(files) == 0 {
			return nil
		}
		output, err := kubectlAdmin("apply", "--server-side", "--force-conflicts", "--field-manager=deploy@"+config.nodeName(), "-f", folder)
		if err != nil {
			return fmt.Errorf("%s", strings.TrimSpace(output))
		}
		return nil
	})
}
