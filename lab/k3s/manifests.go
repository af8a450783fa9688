package main

import (
	_ "embed"
	"strings"
)

//go:embed coredns.yaml
var corednsManifest string

//go:embed local-storage.yaml
var localStorageManifest string

// manifests are the packaged components the lab has, by K3s' names.
func manifests(config Config) map[string]string {
	fill := strings.NewReplacer("%CLUSTER_DNS%", config.clusterDNS(), "%CLUSTER_DOMAIN%", config.get("cluster-domain", "cluster.local"))
	return map[string]string{"coredns": fill.Replace(corednsManifest), "local-storage": localStorageManifest,
		"rolebindings": roleBindingsManifest}
}
