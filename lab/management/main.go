// Command management plays what gpuctl's phase manage brings into a cluster: cert-manager, the NFS provisioners and Rancher.
// One program under the names of the real ones; what it does not know, it refuses.
package main

import (
	"os"
	"path/filepath"

	"gpuctl.lab/incluster"
)

type object = incluster.Object

var programs = map[string]func(arguments []string){
	"cert-manager-controller":         runCertManager,
	"cert-manager-webhook":            runWebhook,
	"cert-manager-cainjector":         runInjector,
	"cert-manager-startupapicheck":    runStartupCheck,
	"nfsplugin":                       runPlugin,
	"csi-provisioner":                 runProvisioner,
	"nfs-subdir-external-provisioner": runSubdirProvisioner,
	"rancher":                         runRancher,
}

func main() {
	name := filepath.Base(os.Args[0])
	program := programs[name]
	if program == nil {
		incluster.Fatal("%s: not part of the rehearsal lab", name)
	}
	program(os.Args[1:])
}
