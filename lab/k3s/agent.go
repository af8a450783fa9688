package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	agentDir         = dataDir + "/agent"
	containerdSocket = "/run/k3s/containerd/containerd.sock"
	kubeletConfig    = agentDir + "/kubelet.kubeconfig"
	cniDir           = agentDir + "/etc/cni/net.d"
)

// nodeAccess is how this node reaches the cluster: the API (on agents through the local balancer) and a supervisor.
type nodeAccess struct {
	api, supervisor, user, secret string
}

func runAgent(config Config) {
	server, tokenText := config.get("server", ""), config.get("token", "")
	if server == "" || tokenText == "" {
		fatal("--server and --token are required")
	}
	processes := newChildren()
	var c client
	var ca []byte
	candidates := append([]string{server}, rememberedServers()...)
	until(5*time.Minute, "reaching "+server, func() (err error) {
		for _, candidate := range candidates {
			if c, ca, err = connect(candidate, tokenText, "node"); err == nil {
				return nil
			}
			logf("warning", "waiting for %s: %v", candidate, err)
		}
		time.Sleep(time.Second)
		return err
	})
	writeFile(agentDir+"/server-ca.crt", ca, 0o644)
	balancer := newBalancer(config, c)
	balancer.start()
	startNode(processes, config, nodeAccess{api: localAPI, supervisor: c.base, user: c.user, secret: c.secret})
	notifyReady()
	logf("info", "k3s agent is up and running")
	processes.wait()
}

// startNode starts what every node runs: containerd, kubelet, kube-proxy, and the pod network.
func startNode(processes *children, config Config, access nodeAccess) {
	c, ca, err := connect(access.supervisor, access.secret, access.user)
	must(err, "reaching "+access.supervisor)
	writeFile(agentDir+"/server-ca.crt", ca, 0o644)
	var cluster agentConfig
	until(2*time.Minute, "fetching the cluster's configuration", func() error {
		answer, status, err := c.call(http.MethodGet, "/v1-k3s/config", nil)
		if status == http.StatusUnauthorized || status == http.StatusForbidden {
			fatal("the server refused this node's token: %v", err)
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(answer, &cluster)
	})
	rememberServers(cluster.Servers)
	writeFile(agentDir+"/client-ca.crt", cluster.ClientCA, 0o644)
	node, address := config.nodeName(), config.nodeIP()
	for _, purpose := range words("kubelet kube-proxy k3s-controller serving-kubelet") {
		requestCertificate(c, purpose, node, address)
	}
	kubeconfig(kubeletConfig, access.api, agentDir+"/client-kubelet", 0o600)
	kubeconfig(agentDir+"/kubeproxy.kubeconfig", access.api, agentDir+"/client-kube-proxy", 0o600)
	kubeconfig(controllerConfig, access.api, agentDir+"/client-k3s-controller", 0o600)

	startContainerd(processes)
	importImages()
	writeKubeletConfig(config, cluster)
	arguments := []string{
		"--config=" + agentDir + "/kubelet.yaml", "--kubeconfig=" + kubeletConfig, "--hostname-override=" + node, "--node-ip=" + address,
		"--root-dir=/var/lib/kubelet", "--cert-dir=" + agentDir + "/pki",
	}
	if labels := config.list("node-label"); len(labels) > 0 {
		arguments = append(arguments, "--node-labels="+strings.Join(labels, ","))
	}
	if taints := config.list("node-taint"); len(taints) > 0 {
		arguments = append(arguments, "--register-with-taints="+strings.Join(taints, ","))
	}
	processes.start("kubelet", append(arguments, dashed(config.list("kubelet-arg"))...)...)
	writeFile(agentDir+"/proxy.yaml", []byte(fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: %s
hostnameOverride: %s
oomScoreAdj: 0
bindAddress: %s
clientConnection: {kubeconfig: %s/kubeproxy.kubeconfig}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, cluster.ClusterCIDR, node, address, agentDir)), 0o600)
	processes.start("kube-proxy", append([]string{"--config=" + agentDir + "/proxy.yaml"}, dashed(config.list("kube-proxy-arg"))...)...)
	go (&podNetwork{node: node, address: address, cluster: cluster}).keep()
	nodes := kubernetesClient(kubeletConfig).CoreV1().Nodes()
	until(3*time.Minute, "registering the node", func() error {
		_, err := nodes.Get(context.Background(), node, meta.GetOptions{})
		return err
	})
	if config.get("disable-network-policy", "false") != "true" {
		go func() {
			awaitProxyRules()
			keepNetworkPolicies(node, cluster)
		}()
	}
}

// awaitProxyRules returns when kube-proxy has written its rules. The network policy controller saves the filter table and
// restores it changed: chains that kube-proxy makes between the two are gone. Its first round fails for it, and is not
// repeated before some Service changes (Kubernetes 1.34: OnServiceSynced drops the error of syncProxyRules).
func awaitProxyRules() {
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		// the last rule of a round: node ports are looked at after every service
		if rules, err := run("iptables", "-w", "-t", "nat", "-S", "KUBE-SERVICES"); err == nil && strings.Contains(rules, "-j KUBE-NODEPORTS") {
			return
		}
	}
	logf("warning", "kube-proxy has not written its rules within 3 minutes; network policies start without them")
}

func requestCertificate(c client, purpose, node, address string) {
	path := agentDir + "/client-" + purpose
	if purpose == "serving-kubelet" {
		path = agentDir + "/serving-kubelet"
	}
	key, encoded := newKey()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: node}}, key)
	must(err, "making a certificate request")
	query := "?" + url.Values{"for": {purpose}, "node": {node}, "ip": {address}}.Encode()
	body := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	until(time.Minute, "requesting the certificate of "+purpose, func() error {
		signed, _, err := c.call(http.MethodPost, "/v1-k3s/sign"+query, body)
		if err == nil {
			writeFile(path+".key", encoded, 0o600)
			writeFile(path+".crt", signed, 0o644)
		}
		return err
	})
}

// startContainerd runs Debian's containerd with K3s' paths. Debian's CNI plugins are in /usr/lib/cni.
func startContainerd(processes *children) {
	path := agentDir + "/etc/containerd/config.toml"
	must(os.MkdirAll(cniDir, 0o755), "making "+cniDir)
	must(os.MkdirAll(filepath.Dir(containerdSocket), 0o711), "making the containerd folder")
	writeRegistries()
	writeFile(path, []byte(fmt.Sprintf(`version = 2
root = "%[1]s/containerd"
state = "/run/k3s/containerd"
[grpc]
  address = "%[2]s"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/rancher/mirrored-pause:3.6"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "%[3]s"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "%[4]s"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
`+nvidiaRuntime(), agentDir, containerdSocket, cniDir, hostsDir)), 0o600)
	processes.start("/usr/bin/containerd", "-c", path, "--log-level=warn")
	until(time.Minute, "waiting for containerd", func() error {
		_, err := run("ctr", "-a", containerdSocket, "version")
		return err
	})
}

// nvidiaRuntime is the runtime "nvidia" where its binary lies at this start. K3s looks in these folders, and never again.
func nvidiaRuntime() string {
	for _, folder := range words("/usr/local/nvidia/toolkit /usr/bin") {
		binary := folder + "/nvidia-container-runtime"
		if _, err := os.Stat(binary); err == nil {
			return fmt.Sprintf(`  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
      BinaryName = "%s"
`, binary)
		}
	}
	return ""
}

// importImages loads agent/images/*.tar, as K3s does in air-gapped sites.
func importImages() {
	files, _ := filepath.Glob(agentDir + "/images/*.tar")
	for _, file := range files {
		if output, err := run("ctr", "-a", containerdSocket, "-n", "k8s.io", "images", "import", file); err != nil {
			fatal("importing %s: %s", file, output)
		}
	}
}

func writeKubeletConfig(config Config, cluster agentConfig) {
	resolv := config.get("resolv-conf", "/etc/resolv.conf")
	writeFile(agentDir+"/kubelet.yaml", []byte(fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix://%s
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %s/client-ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: %s/serving-kubelet.crt
tlsPrivateKeyFile: %s/serving-kubelet.key
failSwapOn: false
oomScoreAdj: 0
protectKernelDefaults: %s
resolvConf: %s
clusterDNS: [%s]
clusterDomain: %s
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi, nodefs.available: 1%%, nodefs.inodesFree: 1%%, imagefs.available: 1%%}
nodeStatusUpdateFrequency: 10s
`, containerdSocket, agentDir, agentDir, agentDir, config.get("protect-kernel-defaults", "false"), resolv,
		cluster.ClusterDNS, cluster.ClusterDomain)), 0o600)
}
