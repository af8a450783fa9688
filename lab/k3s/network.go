package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	vtep       = "flannel.1"
	macKey     = "flannel.alpha.coreos.com/backend-data"
	addressKey = "flannel.alpha.coreos.com/public-ip"
)

// podNetwork does what flannel does: a bridge for this node's pods, and VXLAN (or plain routes) to those of the others.
// The VTEP's MAC travels in the same node annotation as flannel's.
type podNetwork struct {
	node, address string
	cluster       agentConfig
	ready         bool
	routed        map[string]string
}

func (p *podNetwork) keep() {
	p.routed = map[string]string{}
	// the Node authorizer shows a kubelet only its own Node: kube-proxy's identity may list them
	reader, writer := kubernetesClient(agentDir+"/kubeproxy.kubeconfig"), kubernetesClient(kubeletConfig)
	for ; ; time.Sleep(2 * time.Second) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := p.reconcile(ctx, reader, writer); err != nil {
			logf("warning", "pod network: %v", err)
		}
		cancel()
	}
}

func (p *podNetwork) reconcile(ctx context.Context, reader, writer *kubernetes.Clientset) error {
	nodes, err := reader.CoreV1().Nodes().List(ctx, meta.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	for _, node := range nodes.Items {
		if node.Name == p.node && !p.ready && node.Spec.PodCIDR != "" {
			if err := p.setUp(ctx, writer, node.Spec.PodCIDR); err != nil {
				return err
			}
			p.ready = true
		}
	}
	if !p.ready {
		return nil
	}
	for _, node := range nodes.Items {
		if node.Name == p.node || node.Spec.PodCIDR == "" {
			continue
		}
		address, mac := node.Annotations[addressKey], ""
		var data struct{ VtepMAC string }
		if json.Unmarshal([]byte(node.Annotations[macKey]), &data) == nil {
			mac = data.VtepMAC
		}
		key := address + " " + mac
		if address == "" || p.routed[node.Spec.PodCIDR] == key {
			continue
		}
		if err := p.routeTo(node.Spec.PodCIDR, address, mac); err != nil {
			return err
		}
		p.routed[node.Spec.PodCIDR] = key
	}
	return nil
}

// setUp makes the VTEP, publishes it, and writes the CNI configuration, which makes the node Ready.
func (p *podNetwork) setUp(ctx context.Context, writer *kubernetes.Clientset, cidr string) error {
	mac, mtu := "", 1500
	if p.cluster.FlannelBackend == "vxlan" {
		mtu = 1450
		device, err := deviceOf(p.address)
		if err != nil {
			return err
		}
		_, _ = run("ip", "link", "del", vtep)
		for _, command := range [][]string{
			{"link", "add", vtep, "type", "vxlan", "id", "1", "dev", device, "local", p.address, "dstport", "8472", "nolearning"},
			{"addr", "add", offset(cidr, 0) + "/32", "dev", vtep},
			{"link", "set", vtep, "mtu", fmt.Sprint(mtu), "up"},
		} {
			if output, err := run("ip", command...); err != nil {
				return fmt.Errorf("ip %s: %s", strings.Join(command, " "), output)
			}
		}
		link, err := net.InterfaceByName(vtep)
		if err != nil {
			return err
		}
		mac = link.HardwareAddr.String()
	} else if p.cluster.FlannelBackend != "host-gw" {
		fatal("the rehearsal lab does not implement flannel-backend %s", p.cluster.FlannelBackend)
	}
	data, err := json.Marshal(map[string]any{"VNI": 1, "VtepMAC": mac})
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{
		addressKey: p.address, macKey: string(data), "flannel.alpha.coreos.com/backend-type": p.cluster.FlannelBackend}}})
	if err != nil {
		return err
	}
	if _, err := writer.CoreV1().Nodes().Patch(ctx, p.node, types.MergePatchType, patch, meta.PatchOptions{}); err != nil {
		return fmt.Errorf("annotating the node: %w", err)
	}
	for _, rule := range [][]string{
		{"POSTROUTING", "-s", cidr, "-d", p.cluster.ClusterCIDR, "-j", "RETURN"},
		{"POSTROUTING", "-s", p.cluster.ClusterCIDR, "!", "-d", "224.0.0.0/4", "-j", "MASQUERADE"},
	} {
		if _, err := run("iptables", append([]string{"-w", "-t", "nat", "-C"}, rule...)...); err != nil {
			if output, err := run("iptables", append([]string{"-w", "-t", "nat", "-A"}, rule...)...); err != nil {
				return fmt.Errorf("iptables: %s", output)
			}
		}
	}
	writeFile(cniDir+"/10-flannel.conflist", []byte(fmt.Sprintf(`{"cniVersion":"0.4.0","name":"cbr0","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":false,"hairpinMode":true,"mtu":%d,
  "ipam":{"type":"host-local","ranges":[[{"subnet":%q}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
`, mtu, cidr)), 0o600)
	return nil
}

func (p *podNetwork) routeTo(cidr, address, mac string) error {
	commands := [][]string{{"ip", "route", "replace", cidr, "via", address}}
	if p.cluster.FlannelBackend == "vxlan" {
		if mac == "" {
			return nil
		}
		gateway := offset(cidr, 0)
		commands = [][]string{
			{"ip", "neigh", "replace", gateway, "lladdr", mac, "dev", vtep, "nud", "permanent"},
			{"bridge", "fdb", "replace", mac, "dev", vtep, "dst", address},
			{"ip", "route", "replace", cidr, "via", gateway, "dev", vtep, "onlink"},
		}
	}
	for _, command := range commands {
		if output, err := run(command[0], command[1:]...); err != nil {
			return fmt.Errorf("%s: %s", strings.Join(command, " "), output)
		}
	}
	return nil
}

func deviceOf(address string) (string, error) {
	links, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, link := range links {
		addresses, err := link.Addrs()
		if err != nil {
			return "", err
		}
		for _, item := range addresses {
			if network, ok := item.(*net.IPNet); ok && network.IP.String() == address {
				return link.Name, nil
			}
		}
	}
	return "", fmt.Errorf("no interface has the address %s", address)
}
