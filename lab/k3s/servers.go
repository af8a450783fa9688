package main

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func kubernetesClient(kubeconfig string) *kubernetes.Clientset {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	must(err, "reading "+kubeconfig)
	config.Timeout = 10 * time.Second
	config.WarningHandler = rest.NoWarnings{}
	clientset, err := kubernetes.NewForConfig(config)
	must(err, "making a client")
	return clientset
}

// keepServers keeps the roles on the Node object of this server, the addresses behind the Service "kubernetes", and
// removes the etcd member of a deleted Node: three jobs of K3s' own controllers.
func (s *supervisor) keepServers() {
	client, seen := kubernetesClient(adminConfig), map[string]bool{}
	for ; ; time.Sleep(3 * time.Second) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := s.keepOnce(ctx, client, seen); err != nil {
			logf("warning", "keeping the servers: %v", err)
		}
		cancel()
	}
}

func (s *supervisor) keepOnce(ctx context.Context, client *kubernetes.Clientset, seen map[string]bool) error {
	nodes, err := client.CoreV1().Nodes().List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	current := map[string]bool{}
	for _, node := range nodes.Items {
		current[node.Name], seen[node.Name] = true, true
		if node.Name == s.config.nodeName() && node.Labels["node-role.kubernetes.io/etcd"] != "true" {
			patch := []byte(`{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":"true","node-role.kubernetes.io/etcd":"true"}}}`)
			if _, err := client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, meta.PatchOptions{}); err != nil {
				return err
			}
		}
	}
	for name := range seen {
		if !current[name] && name != s.config.nodeName() {
			removeMembersOf(name)
			delete(seen, name)
		}
	}
	return publishServers(ctx, client)
}

// publishServers writes the servers that answer behind default/kubernetes, as the API server's own reconciler would.
func publishServers(ctx context.Context, client *kubernetes.Clientset) error {
	hosts, err := votingAddresses(ctx)
	if err != nil {
		return err
	}
	hosts = slices.DeleteFunc(hosts, func(host string) bool { return !alive(host) })
	if len(hosts) == 0 {
		return nil
	}
	slices.Sort(hosts)
	port := int32(6443)
	protocol, name, ready := core.ProtocolTCP, "https", true
	endpoints := core.Endpoints{TypeMeta: meta.TypeMeta{Kind: "Endpoints", APIVersion: "v1"}, ObjectMeta: meta.ObjectMeta{Name: "kubernetes",
		Labels: map[string]string{"endpointslice.kubernetes.io/skip-mirror": "true"}}}
	subset := core.EndpointSubset{Ports: []core.EndpointPort{{Name: name, Port: port, Protocol: protocol}}}
	slice := discovery.EndpointSlice{TypeMeta: meta.TypeMeta{Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"},
		ObjectMeta:  meta.ObjectMeta{Name: "kubernetes", Labels: map[string]string{discovery.LabelServiceName: "kubernetes"}},
		AddressType: discovery.AddressTypeIPv4, Ports: []discovery.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}}}
	for _, host := range hosts {
		subset.Addresses = append(subset.Addresses, core.EndpointAddress{IP: host})
		slice.Endpoints = append(slice.Endpoints, discovery.Endpoint{Addresses: []string{host}, Conditions: discovery.EndpointConditions{Ready: &ready}})
	}
	endpoints.Subsets = []core.EndpointSubset{subset}
	force := meta.PatchOptions{FieldManager: "k3s", Force: &ready}
	for kind, object := range map[string]any{"endpoints": endpoints, "slice": slice} {
		text, err := json.Marshal(object)
		if err != nil {
			return err
		}
		if kind == "endpoints" {
			_, err = client.CoreV1().Endpoints("default").Patch(ctx, "kubernetes", types.ApplyPatchType, text, force)
		} else {
			_, err = client.DiscoveryV1().EndpointSlices("default").Patch(ctx, "kubernetes", types.ApplyPatchType, text, force)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
