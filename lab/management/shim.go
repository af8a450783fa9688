package main

import (
	"errors"
	"net/http"
	"reflect"

	"gpuctl.lab/incluster"
)

// Ingress is the part of an Ingress that the shim reads.
type Ingress struct {
	Metadata Meta
	Spec     struct {
		TLS []struct {
			Hosts      []string
			SecretName string
		}
	}
}

// reconcileIngresses makes a Certificate of every TLS entry of an Ingress that names a cluster issuer.
func reconcileIngresses() error {
	var found struct{ Items []Ingress }
	if err := incluster.Call("GET", "/apis/networking.k8s.io/v1/ingresses", nil, "", &found); err != nil {
		return err
	}
	var failed error
	for _, ingress := range found.Items {
		of := ingress.Metadata
		issuer := of.Annotations["cert-manager.io/cluster-issuer"]
		if of.Annotations["cert-manager.io/issuer"] != "" || of.Annotations["kubernetes.io/tls-acme"] != "" {
			event("cert-manager-ingress-shim", "networking.k8s.io/v1", "Ingress", of, "Warning", "BadConfig",
				"cert-manager.io/issuer and tls-acme: not part of the rehearsal lab, which has ClusterIssuers only")
		}
		if issuer == "" || of.DeletionTimestamp != "" {
			continue
		}
		for _, entry := range ingress.Spec.TLS {
			if entry.SecretName == "" || len(entry.Hosts) == 0 {
				event("cert-manager-ingress-shim", "networking.k8s.io/v1", "Ingress", of, "Warning", "BadConfig",
					"TLS entry is invalid: tls.hosts or tls.secretName is required")
				continue
			}
			failed = errors.Join(failed, certify(ingress, entry.SecretName, entry.Hosts, issuer))
		}
	}
	return failed
}

func certify(ingress Ingress, secret string, hosts []string, issuer string) error {
	of := ingress.Metadata
	reference := IssuerReference{Name: issuer, Kind: "ClusterIssuer", Group: "cert-manager.io"}
	spec := object{"secretName": secret, "dnsNames": hosts, "issuerRef": reference, "usages": []string{"digital signature", "key encipherment"}}
	collection := certManager + "/namespaces/" + of.Namespace + "/certificates"
	var known Certificate
	err := incluster.Call("GET", collection+"/"+secret, nil, "", &known)
	if incluster.Is(err, http.StatusNotFound) {
		err = incluster.Call("POST", collection, object{"apiVersion": apiVersion, "kind": "Certificate", "spec": spec,
			"metadata": object{"name": secret, "namespace": of.Namespace, "ownerReferences": []any{object{
				"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": of.Name, "uid": of.UID, "controller": true, "blockOwnerDeletion": true}}},
		}, "", nil)
		if err == nil {
			event("cert-manager-ingress-shim", "networking.k8s.io/v1", "Ingress", of, "Normal", "CreateCertificate",
				"Successfully created Certificate \""+secret+"\"")
		}
		return err
	}
	if err != nil {
		return err
	}
	if len(known.Metadata.OwnerReferences) == 0 || known.Metadata.OwnerReferences[0].UID != of.UID {
		return nil // somebody else's certificate of this name is left alone
	}
	if reflect.DeepEqual(known.Spec.DNSNames, hosts) && known.Spec.IssuerRef == reference {
		return nil
	}
	return incluster.Call("PATCH", collection+"/"+secret, object{"spec": spec}, incluster.MergePatch, nil)
}
