package main

import (
	_ "embed"
	"os"
	"sync"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"github.com/cloudnativelabs/kube-router/v2/pkg/utils"
	"github.com/coreos/go-iptables/iptables"
	core "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const controllerConfig = agentDir + "/k3scontroller.kubeconfig"

//go:embed rolebindings.yaml
var roleBindingsManifest string

// keepNetworkPolicies runs kube-router's network policy controller on this node, as K3s does.
func keepNetworkPolicies(node string, cluster agentConfig) {
	config, err := clientcmd.BuildConfigFromFlags("", controllerConfig)
	must(err, "reading "+controllerConfig)
	client, err := kubernetes.NewForConfig(config)
	must(err, "making a client")
	must(os.Setenv("NODE_NAME", node), "naming the node")
	tables, err := iptables.NewWithProtocol(iptables.ProtocolIPv4)
	must(err, "looking for iptables")
	sets, err := utils.NewIPSet(false)
	must(err, "looking for ipset")
	settings := options.NewKubeRouterConfig()
	settings.ClusterIPCIDRs = []string{cluster.ServiceCIDR}
	settings.EnableIPv4, settings.EnableIPv6, settings.RunFirewall = true, false, true
	settings.NodePortRange, settings.HostnameOverride, settings.IPTablesSyncPeriod = "30000-32767", node, 5*time.Minute
	factory, stop := informers.NewSharedInformerFactory(client, 0), make(chan struct{})
	pods, policies := factory.Core().V1().Pods().Informer(), factory.Networking().V1().NetworkPolicies().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	var controller *netpol.NetworkPolicyController
	until(3*time.Minute, "starting the network policy controller", func() (err error) {
		controller, err = netpol.NewNetworkPolicyController(client, settings, pods, policies, namespaces, &sync.Mutex{},
			map[core.IPFamily]utils.IPTablesHandler{core.IPv4Protocol: tables}, map[core.IPFamily]utils.IPSetHandler{core.IPv4Protocol: sets})
		return err
	})
	for informer, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods: controller.PodEventHandler, policies: controller.NetworkPolicyEventHandler, namespaces: controller.NamespaceEventHandler,
	} {
		_, err := informer.AddEventHandler(handler)
		must(err, "watching for network policies")
	}
	factory.Start(stop)
	factory.WaitForCacheSync(stop)
	beats := make(chan *healthcheck.ControllerHeartbeat, 1)
	go func() {
		for range beats {
		}
	}()
	var group sync.WaitGroup
	group.Add(1)
	controller.Run(beats, stop, &group)
}
