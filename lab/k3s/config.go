package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"sort"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

const (
	configFile = "/etc/rancher/k3s/config.yaml"
	dataDir    = "/var/lib/rancher/k3s"
)

// Flag names of K3s. The stand-in acts on those in `acted`; the others are refused, so that nothing is promised in vain.
var (
	commonKeys = words(`config debug v vmodule log alsologtostderr token token-file server data-dir node-name with-node-id
		node-label node-taint image-credential-provider-bin-dir image-credential-provider-config selinux lb-server-port
		protect-kernel-defaults container-runtime-endpoint default-runtime image-service-endpoint
		disable-default-registry-endpoint pause-image snapshotter private-registry node-ip node-external-ip resolv-conf
		flannel-iface flannel-conf flannel-cni-conf kubelet-arg kube-proxy-arg rootless prefer-bundled-bin docker vpn-auth
		vpn-auth-file node-internal-dns node-external-dns disable-apiserver-lb nonroot-devices bind-address`)
	serverKeys = words(`https-listen-port advertise-address advertise-port tls-san tls-san-security cluster-cidr
		service-cidr service-node-port-range cluster-dns cluster-domain flannel-backend flannel-ipv6-masq flannel-external-ip
		egress-selector-mode servicelb-namespace write-kubeconfig write-kubeconfig-mode write-kubeconfig-group helm-job-image
		agent-token agent-token-file cluster-init cluster-reset cluster-reset-restore-path kube-apiserver-arg etcd-arg
		kube-controller-manager-arg kube-scheduler-arg kube-cloud-controller-manager-arg datastore-endpoint datastore-cafile
		datastore-certfile datastore-keyfile etcd-expose-metrics etcd-disable-snapshots etcd-snapshot-name
		etcd-snapshot-schedule-cron etcd-snapshot-retention etcd-snapshot-dir etcd-snapshot-compress
		default-local-storage-path disable disable-scheduler disable-cloud-controller disable-kube-proxy
		disable-network-policy disable-helm-controller embedded-registry system-default-registry secrets-encryption
		enable-pprof supervisor-metrics secrets-encryption-provider`)
	acted = words(`debug token token-file server node-name node-label node-taint protect-kernel-defaults node-ip kubelet-arg
		resolv-conf flannel-iface kube-proxy-arg tls-san cluster-cidr service-cidr cluster-dns cluster-domain flannel-backend
		write-kubeconfig-mode agent-token agent-token-file cluster-init kube-apiserver-arg etcd-expose-metrics
		etcd-disable-snapshots etcd-snapshot-schedule-cron etcd-snapshot-retention disable secrets-encryption
		disable-network-policy disable-helm-controller disable-cloud-controller`)
	packaged = words("coredns servicelb traefik local-storage metrics-server runtimes")
)

func words(text string) []string { return strings.Fields(text) }
func now() string                { return time.Now().UTC().Format(time.RFC3339) }

// Config is what config.yaml and the command line say; later keys win, lists are joined as in K3s.
type Config struct {
	Role   string
	values map[string][]string
}

func (c Config) get(key, fallback string) string {
	if values := c.values[key]; len(values) > 0 {
		return values[len(values)-1]
	}
	return fallback
}

// list is a repeatable flag; only where K3s splits at commas does the stand-in too.
func (c Config) list(key string) []string {
	if key != "disable" && key != "tls-san" {
		return c.values[key]
	}
	var all []string
	for _, value := range c.values[key] {
		all = append(all, strings.Split(value, ",")...)
	}
	return all
}

func (c Config) on(key string) bool { return c.get(key, "false") == "true" }

func loadConfig(role string, arguments []string) Config {
	config := Config{role, map[string][]string{}}
	known := slices.Clone(commonKeys)
	if role == "server" {
		known = append(known, serverKeys...)
	}
	text, err := os.ReadFile(configFile)
	if err != nil && !os.IsNotExist(err) {
		must(err, "reading "+configFile)
	}
	var tree map[string]any
	must(yaml.Unmarshal(text, &tree), "parsing "+configFile)
	for key, value := range tree {
		switch typed := value.(type) {
		case []any:
			for _, item := range typed {
				config.values[key] = append(config.values[key], scalar(item))
			}
		default:
			config.values[key] = []string{scalar(value)}
		}
	}
	for _, argument := range arguments {
		key, value, found := strings.Cut(strings.TrimLeft(argument, "-"), "=")
		if !found {
			value = "true"
		}
		config.values[key] = append(config.values[key], value)
	}
	keys := make([]string, 0, len(config.values))
	for key := range config.values {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		switch {
		case slices.Contains(known, key) && slices.Contains(acted, key):
		case slices.Contains(known, key):
			fatal("the rehearsal lab does not implement --%s", key)
		case role == "agent":
			fatal("flag provided but not defined: -%s", key)
		default:
			logf("warning", "Unknown flag --%s found in config.yaml, skipping", key)
			delete(config.values, key)
		}
	}
	for _, item := range config.list("disable") {
		if !slices.Contains(packaged, item) {
			fatal("invalid --disable item %q", item)
		}
	}
	for _, key := range words("token agent-token") {
		if path := config.get(key+"-file", ""); path != "" {
			secret, err := os.ReadFile(path)
			must(err, "reading "+path)
			config.values[key] = []string{strings.TrimSpace(string(secret))}
		}
	}
	return config
}

func scalar(value any) string {
	if number, ok := value.(float64); ok && number == float64(int64(number)) {
		return fmt.Sprint(int64(number))
	}
	return fmt.Sprint(value)
}

func (c Config) nodeName() string {
	host, err := os.Hostname()
	must(err, "reading the host name")
	return strings.ToLower(c.get("node-name", host))
}

// nodeIP is --node-ip, else the source address of the default route (K3s needs a default route too).
func (c Config) nodeIP() string {
	if address := c.get("node-ip", ""); address != "" {
		return address
	}
	connection, err := net.Dial("udp", "198.51.100.1:9")
	if err != nil {
		fatal("unable to select an IP from default routes: %v", err)
	}
	defer connection.Close()
	return connection.LocalAddr().(*net.UDPAddr).IP.String()
}

// critical is what must be equal on all servers; a joining server that differs is refused.
func (c Config) critical() map[string]string {
	settings := map[string]string{}
	for key, fallback := range map[string]string{
		"cluster-cidr": "10.42.0.0/16", "service-cidr": "10.43.0.0/16", "cluster-dns": "", "cluster-domain": "cluster.local",
		"flannel-backend": "vxlan", "secrets-encryption": "false", "agent-token": "", "disable-network-policy": "false",
		"disable-helm-controller": "false", "disable-cloud-controller": "false",
	} {
		settings[key] = c.get(key, fallback)
	}
	settings["disable-servicelb"] = fmt.Sprint(slices.Contains(c.list("disable"), "servicelb"))
	return settings
}

func (c Config) clusterDNS() string {
	if address := c.get("cluster-dns", ""); address != "" {
		return address
	}
	return offset(c.get("service-cidr", "10.43.0.0/16"), 10)
}

// offset is the n-th address of an IPv4 range (n < 256).
func offset(cidr string, n byte) string {
	_, network, err := net.ParseCIDR(cidr)
	must(err, "parsing "+cidr)
	address := slices.Clone(network.IP.To4())
	address[3] += n
	return address.String()
}
