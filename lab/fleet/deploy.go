package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"path"
	"strings"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
)

// Fleet marks the releases that are its own in their chart's annotations.
const (
	bundleMark = group + "/bundle-id"
	agentMark  = group + "/agent-namespace"
	keepMark   = group + "/keep-resources"
	agent      = "cattle-fleet-local-system"
	history    = 2
)

func (f *Fleet) helm(namespace string) (*action.Configuration, error) {
	flags := genericclioptions.NewConfigFlags(false)
	flags.Namespace = &namespace
	flags.WrapConfigFn = func(*rest.Config) *rest.Config { return rest.CopyConfig(f.config) }
	made := &action.Configuration{}
	err := made.Init(flags, namespace, "secret", func(string, ...any) {})
	return made, err
}

func releaseName(deployment *BundleDeployment) string {
	if name := deployment.Spec.Options.Helm.ReleaseName; name != "" {
		return name
	}
	return deployment.Name
}

// deploy installs or upgrades the bundle's release; Helm's own refusals are its errors.
func (f *Fleet) deploy(ctx context.Context, deployment *BundleDeployment, bundle *Bundle) error {
	options := deployment.Spec.Options
	if options.Helm == nil {
		return fmt.Errorf("bundle %s: only charts are part of the rehearsal lab", bundle.Name)
	}
	files, err := contents(bundle.Spec.Resources)
	if err != nil {
		return err
	}
	loaded, values, err := chartOf(options.Helm, files)
	if err != nil {
		return err
	}
	if loaded.Metadata.Annotations == nil {
		loaded.Metadata.Annotations = map[string]string{}
	}
	loaded.Metadata.Annotations[bundleMark] = deployment.Name
	loaded.Metadata.Annotations[agentMark] = agent
	loaded.Metadata.Annotations[keepMark] = fmt.Sprint(options.KeepResources)
	loaded.Metadata.Annotations[commitMark] = bundle.Labels[commitMark]
	name := releaseName(deployment)
	helm, err := f.helm(options.DefaultNamespace)
	if err != nil {
		return err
	}
	_, err = helm.Releases.Deployed(name)
	switch {
	case errors.Is(err, driver.ErrNoDeployedReleases):
		install := action.NewInstall(helm)
		install.ReleaseName, install.Namespace, install.CreateNamespace = name, options.DefaultNamespace, true
		install.Replace, install.TakeOwnership = true, options.Helm.TakeOwnership
		_, err = install.RunWithContext(ctx, loaded, values)
	case err == nil:
		upgrade := action.NewUpgrade(helm)
		upgrade.Namespace, upgrade.TakeOwnership, upgrade.MaxHistory = options.DefaultNamespace, true, history
		_, err = upgrade.RunWithContext(ctx, name, loaded, values)
	}
	if err != nil {
		return err
	}
	if err := f.labelNamespace(ctx, options); err != nil {
		return err
	}
	log.Printf("%s: release %s/%s deployed", deployment.Name, options.DefaultNamespace, name)
	return f.forgetOthers(deployment.Name, options.DefaultNamespace+"/"+name)
}

func chartOf(options *Helm, files map[string][]byte) (*chart.Chart, map[string]any, error) {
	var chartFiles []*loader.BufferedFile
	for _, name := range sorted(files) {
		if inside, ok := strings.CutPrefix(name, path.Clean(options.Chart)+"/"); ok {
			chartFiles = append(chartFiles, &loader.BufferedFile{Name: inside, Data: files[name]})
		}
	}
	loaded, err := loader.LoadFiles(chartFiles)
	if err != nil {
		return nil, nil, err
	}
	values := map[string]any{}
	for _, name := range options.ValuesFiles {
		data, ok := files[name]
		if !ok {
			return nil, nil, fmt.Errorf("valuesFiles: no file %s in the bundle", name)
		}
		given, err := chartutil.ReadValues(data)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		values = chartutil.CoalesceTables(given, values)
	}
	return loaded, chartutil.CoalesceTables(options.Values, values), nil
}

// labelNamespace leaves the namespace with these labels and no others, as Fleet does.
func (f *Fleet) labelNamespace(ctx context.Context, options Options) error {
	if options.NamespaceLabels == nil {
		return nil
	}
	namespace, err := f.core.CoreV1().Namespaces().Get(ctx, options.DefaultNamespace, metav1.GetOptions{})
	if err != nil {
		return err
	}
	labels := map[string]string{corev1.LabelMetadataName: namespace.Name}
	for name, value := range options.NamespaceLabels {
		labels[name] = value
	}
	namespace.Labels = labels
	_, err = f.core.CoreV1().Namespaces().Update(ctx, namespace, metav1.UpdateOptions{})
	return err
}

// owned are the newest revisions of the releases that belong to a bundle.
func (f *Fleet) owned(bundle string) ([]*release.Release, error) {
	helm, err := f.helm("")
	if err != nil {
		return nil, err
	}
	newest := map[string]*release.Release{}
	releases, err := helm.Releases.List(func(r *release.Release) bool { return r.Chart.Metadata.Annotations[bundleMark] == bundle })
	if err != nil {
		return nil, err
	}
	for _, found := range releases {
		key := found.Namespace + "/" + found.Name
		if newest[key] == nil || newest[key].Version < found.Version {
			newest[key] = found
		}
	}
	var list []*release.Release
	for _, key := range sorted(newest) {
		list = append(list, newest[key])
	}
	return list, nil
}

// forgetOthers uninstalls what the bundle installed under another name or in another namespace before.
func (f *Fleet) forgetOthers(bundle, except string) error {
	releases, err := f.owned(bundle)
	if err != nil {
		return err
	}
	for _, found := range releases {
		if found.Namespace+"/"+found.Name == except {
			continue
		}
		if err := f.uninstall(bundle, found); err != nil {
			return err
		}
	}
	return nil
}

// uninstall removes a release with its objects. With keepResources the objects stay; as with Fleet, so does the record of
// a release that is called otherwise than its bundle.
func (f *Fleet) uninstall(bundle string, found *release.Release) error {
	helm, err := f.helm(found.Namespace)
	if err != nil {
		return err
	}
	if found.Chart.Metadata.Annotations[keepMark] == "true" {
		if found.Name != bundle {
			return nil
		}
		revisions, err := helm.Releases.History(found.Name)
		if err != nil {
			return err
		}
		for _, revision := range revisions {
			if _, err := helm.Releases.Delete(revision.Name, revision.Version); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := action.NewUninstall(helm).Run(found.Name); err != nil {
		return fmt.Errorf("failed to delete release %s: %w", found.Name, err)
	}
	log.Printf("%s: release %s/%s uninstalled", bundle, found.Namespace, found.Name)
	return nil
}
