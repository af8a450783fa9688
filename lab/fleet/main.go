// Command fleet plays Rancher's Fleet for one cluster: it follows Git repositories and installs what they hold with the
// real Helm. What it does not know, it refuses.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

const (
	finalizer      = group + "/lab-finalizer"
	reposIn        = "fleet-local"
	nameLabel      = group + "/bundle-name"
	namespaceLabel = group + "/bundle-namespace"
	every          = time.Second
	lookEvery      = 3 * time.Second
)

// Fleet knows the cluster; everything it has to remember is in there.
type Fleet struct {
	config  *rest.Config
	core    *kubernetes.Clientset
	dynamic dynamic.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
	polled  map[string]time.Time
	looked  map[string]time.Time
	// namespace of the BundleDeployments of the one cluster
	deployments string
}

func main() {
	log.SetFlags(log.LUTC | log.Ltime)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	fleet, err := newFleet()
	if err != nil {
		log.Fatal(err)
	}
	for ctx.Err() == nil {
		if err := fleet.round(ctx); err != nil {
			log.Print(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
}

func newFleet() (*Fleet, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 50, 100
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(core.Discovery()))
	namespace := os.Getenv("CLUSTER_NAMESPACE")
	if namespace == "" {
		return nil, fmt.Errorf("CLUSTER_NAMESPACE is not set")
	}
	return &Fleet{config, core, client, mapper, map[string]time.Time{}, map[string]time.Time{}, namespace}, nil
}

func (f *Fleet) secret(namespace, name string) (*corev1.Secret, error) {
	return f.core.CoreV1().Secrets(namespace).Get(context.Background(), name, metav1.GetOptions{})
}

func (f *Fleet) resource(plural, namespace string) dynamic.ResourceInterface {
	return f.dynamic.Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: plural}).Namespace(namespace)
}

// list reads every object of a kind; a field that the lab does not know is an error.
func list[T any](ctx context.Context, client dynamic.ResourceInterface, selector string) ([]*T, error) {
	answer, err := client.List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	var found []*T
	for _, item := range answer.Items {
		made := new(T)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(item.Object, made, true); err != nil {
			return nil, fmt.Errorf("%s %s: not part of the rehearsal lab: %w", item.GetKind(), item.GetName(), err)
		}
		found = append(found, made)
	}
	return found, nil
}

func asObject(item any) (*unstructured.Unstructured, error) {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(item)
	return &unstructured.Unstructured{Object: object}, err
}

// write updates an object, or only its status; nothing happens when it is as it was.
func write(ctx context.Context, client dynamic.ResourceInterface, item any, before string, subresources ...string) error {
	if text(item) == before {
		return nil
	}
	object, err := asObject(item)
	if err != nil {
		return err
	}
	if len(subresources) > 0 {
		_, err = client.UpdateStatus(ctx, object, metav1.UpdateOptions{})
	} else {
		_, err = client.Update(ctx, object, metav1.UpdateOptions{})
	}
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // somebody was faster; the next round sees what is true then
	}
	return err
}

func text(item any) string {
	encoded, _ := json.Marshal(item)
	return string(encoded)
}

func digest(item any) string {
	sum := sha256.Sum256([]byte(text(item)))
	return fmt.Sprintf("%x", sum[:16])
}

// round is everything, once: repositories to bundles, bundles to deployments, deployments to releases, and back up.
func (f *Fleet) round(ctx context.Context) error {
	repos, err := list[GitRepo](ctx, f.resource("gitrepos", reposIn), "")
	if err != nil {
		return err
	}
	for _, repo := range repos {
		if err := f.repository(ctx, repo); err != nil {
			return fmt.Errorf("GitRepo %s: %w", repo.Name, err)
		}
	}
	bundles, err := list[Bundle](ctx, f.resource("bundles", reposIn), "")
	if err != nil {
		return err
	}
	states := map[string]string{}
	for _, bundle := range bundles {
		states[bundle.Name] = bundle.Status.Display.State
	}
	for _, bundle := range bundles {
		if err := f.bundle(ctx, bundle, states); err != nil {
			return fmt.Errorf("Bundle %s: %w", bundle.Name, err)
		}
	}
	return nil
}
