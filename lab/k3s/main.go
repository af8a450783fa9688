// Command k3s is the lab's stand-in for K3s: the same command, flags, files and ports over the real Kubernetes
// components, which it carries and runs as child processes. What it does not know, it refuses.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// components are run by re-executing this binary with the component's name as the first argument.
var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": kcm.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kube-proxy":              proxy.NewProxyCommand,
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
	"kubectl":                 func() *cobra.Command { return kubectl.NewDefaultKubectlCommand() },
}

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // of all hosts, the memory is there and the processors are what everybody waits for
	}
	name := filepath.Base(os.Args[0])
	arguments := os.Args[1:]
	if _, known := components[name]; !known {
		if len(arguments) == 0 {
			fatal("usage: k3s server|agent|kubectl|etcd-snapshot|token|secrets-encrypt|--version")
		}
		name, arguments = arguments[0], arguments[1:]
	}
	switch name {
	case "--version", "-v":
		fmt.Printf("k3s version %s (rehearsal lab stand-in)\n", version.Get().GitVersion)
	case "server":
		runServer(loadConfig("server", arguments))
	case "agent":
		runAgent(loadConfig("agent", arguments))
	case "etcd":
		etcdmain.Main(append([]string{"etcd"}, arguments...))
	case "etcd-snapshot":
		snapshotCommand(arguments)
	case "token":
		tokenCommand(arguments)
	case "secrets-encrypt":
		secretsEncryptCommand(arguments)
	default:
		command, known := components[name]
		if !known {
			fatal("k3s %s: not part of the rehearsal lab", name)
		}
		if name == "kubectl" && os.Getenv("KUBECONFIG") == "" {
			os.Setenv("KUBECONFIG", "/etc/rancher/k3s/k3s.yaml")
		}
		os.Args = append([]string{name}, arguments...)
		os.Exit(cli.Run(command()))
	}
}

func fatal(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "time=%q level=fatal msg=%q\n", now(), fmt.Sprintf(format, values...))
	os.Exit(1)
}

func logf(level, format string, values ...any) {
	fmt.Fprintf(os.Stderr, "time=%q level=%s msg=%q\n", now(), level, fmt.Sprintf(format, values...))
}

func must(err error, doing string) {
	if err != nil {
		fatal("%s: %v", doing, err)
	}
}
