package main

import (
	"context"
	"fmt"
	"log"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// repository follows one GitRepo: a new commit or a new spec becomes bundles, and what became of them its status.
func (f *Fleet) repository(ctx context.Context, repo *GitRepo) error {
	client, selector := f.resource("gitrepos", repo.Namespace), repoLabel+"="+repo.Name
	if repo.DeletionTimestamp != nil {
		bundles, err := list[Bundle](ctx, f.resource("bundles", repo.Namespace), selector)
		if err != nil {
			return err
		}
		for _, bundle := range bundles {
			if err := f.resource("bundles", repo.Namespace).Delete(ctx, bundle.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
		if len(bundles) > 0 {
			return nil
		}
		delete(f.polled, repo.Name)
		repo.Finalizers = slices.DeleteFunc(repo.Finalizers, func(name string) bool { return name == finalizer })
		return write(ctx, client, repo, "")
	}
	if !slices.Contains(repo.Finalizers, finalizer) {
		repo.Finalizers = append(repo.Finalizers, finalizer)
		return write(ctx, client, repo, "")
	}
	before := text(repo)
	status := &repo.Status
	changed := status.ObservedGeneration != repo.Generation
	interval := 15 * time.Second
	if given, err := time.ParseDuration(repo.Spec.PollingInterval); err == nil {
		interval = given
	}
	if changed || time.Since(f.polled[repo.Name]) >= interval {
		f.polled[repo.Name] = time.Now()
		f.poll(ctx, repo, changed)
	}
	if err := f.summarize(ctx, repo, selector); err != nil {
		return err
	}
	return write(ctx, client, repo, before, "status")
}

// poll asks the remote, and runs what Fleet calls the gitjob when there is something new.
func (f *Fleet) poll(ctx context.Context, repo *GitRepo, changed bool) {
	status := &repo.Status
	status.LastPollingTriggered = metav1.Now().UTC().Format(time.RFC3339)
	commit, err := f.latestCommit(ctx, repo)
	status.Conditions = setCondition(status.Conditions, "GitPolling", err == nil, message(err))
	if err == nil {
		status.PollingCommit = commit
	}
	if err == nil && (changed || commit != status.Commit || status.GitJobStatus != "Current") {
		err = f.gitjob(ctx, repo, commit)
		status.GitJobStatus = map[bool]string{true: "Current", false: "Failed"}[err == nil]
		if err == nil {
			status.Commit = commit
			log.Printf("GitRepo %s: commit %s", repo.Name, commit)
		}
	}
	status.ObservedGeneration = repo.Generation
	status.Conditions = setCondition(status.Conditions, "Reconciling", false, "")
	status.Conditions = setCondition(status.Conditions, "Stalled", err != nil, message(err))
	status.Conditions = setCondition(status.Conditions, "Accepted", true, "")
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// gitjob writes the commit's bundles. As with Fleet, a bundle of this name is taken over, whoever made it.
func (f *Fleet) gitjob(ctx context.Context, repo *GitRepo, commit string) error {
	wanted, err := f.bundles(ctx, repo, commit)
	if err != nil {
		return err
	}
	client := f.resource("bundles", repo.Namespace)
	names := map[string]bool{}
	for _, bundle := range wanted {
		names[bundle.Name] = true
		bundle.Finalizers = []string{finalizer}
		object, err := asObject(bundle)
		if err != nil {
			return err
		}
		have, err := client.Get(ctx, bundle.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = client.Create(ctx, object, metav1.CreateOptions{})
		} else if err == nil {
			have.SetLabels(bundle.Labels)
			have.Object["spec"] = object.Object["spec"]
			_, err = client.Update(ctx, have, metav1.UpdateOptions{})
		}
		if err != nil {
			return fmt.Errorf("bundle %s: %w", bundle.Name, err)
		}
	}
	known, err := list[Bundle](ctx, client, repoLabel+"="+repo.Name)
	if err != nil {
		return err
	}
	for _, bundle := range known {
		if !names[bundle.Name] {
			if err := client.Delete(ctx, bundle.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	return nil
}

// bundle makes the BundleDeployment of the one cluster, or takes it away with the bundle.
func (f *Fleet) bundle(ctx context.Context, bundle *Bundle, states map[string]string) error {
	client, deployments := f.resource("bundles", bundle.Namespace), f.resource("bundledeployments", f.deployments)
	if bundle.DeletionTimestamp != nil {
		releases, err := f.owned(bundle.Name)
		if err != nil {
			return err
		}
		for _, found := range releases {
			if err := f.uninstall(bundle.Name, found); err != nil {
				return err
			}
		}
		if err := deployments.Delete(ctx, bundle.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		bundle.Finalizers = nil
		return write(ctx, client, bundle, "")
	}
	found, err := list[BundleDeployment](ctx, deployments, nameLabel+"="+bundle.Name)
	if err != nil {
		return err
	}
	options := bundle.Spec.Options
	id := digest(bundle.Spec.Resources) + ":" + digest(options)
	if len(found) == 0 {
		made := &BundleDeployment{}
		made.APIVersion, made.Kind = group+"/"+version, "BundleDeployment"
		made.Name, made.Namespace = bundle.Name, f.deployments
		made.Spec.DeploymentID, made.Spec.Options, made.Spec.DependsOn = id, options, bundle.Spec.DependsOn
		made.Labels = deploymentLabels(bundle)
		object, err := asObject(made)
		if err != nil {
			return err
		}
		_, err = deployments.Create(ctx, object, metav1.CreateOptions{})
		return err
	}
	deployment := found[0]
	before := text(deployment)
	deployment.Labels, deployment.Spec.DeploymentID, deployment.Spec.Options = deploymentLabels(bundle), id, options
	deployment.Spec.DependsOn = bundle.Spec.DependsOn
	if text(deployment) != before {
		return write(ctx, deployments, deployment, before)
	}
	if err := f.deployment(ctx, deployment, bundle, states); err != nil {
		return err
	}
	if err := write(ctx, deployments, deployment, before, "status"); err != nil {
		return err
	}
	before = text(bundle)
	count(&bundle.Status.Summary, deployment.Status.Display.State, true)
	bundle.Status.ObservedGeneration = bundle.Generation
	bundle.Status.Display.State = deployment.Status.Display.State
	bundle.Status.Conditions = setCondition(bundle.Status.Conditions, "Ready", deployment.Status.Display.State == "Ready", said(deployment))
	return write(ctx, client, bundle, before, "status")
}

func deploymentLabels(bundle *Bundle) map[string]string {
	labels := map[string]string{nameLabel: bundle.Name, namespaceLabel: bundle.Namespace, group + "/managed": "true"}
	for name, value := range bundle.Labels {
		labels[name] = value
	}
	return labels
}

// deployment installs what is not installed yet and looks at what is; a failure is tried again after a while.
func (f *Fleet) deployment(ctx context.Context, deployment *BundleDeployment, bundle *Bundle, states map[string]string) error {
	status := &deployment.Status
	if status.AppliedDeploymentID != deployment.Spec.DeploymentID && status.Ready {
		status.Display.State, status.Ready = "OutOfSync", false
	} else if time.Since(f.looked[deployment.Name]) < lookEvery {
		return nil
	}
	f.looked[deployment.Name] = time.Now()
	if status.AppliedDeploymentID != deployment.Spec.DeploymentID {
		for _, needed := range deployment.Spec.DependsOn {
			if states[needed.Name] != "Ready" {
				why := fmt.Sprintf("dependent bundle(s) are not ready: [%s]", needed.Name)
				status.Conditions = setCondition(status.Conditions, "Deployed", false, why)
				status.Display.State = "WaitApplied"
				return nil
			}
		}
		err := f.deploy(ctx, deployment, bundle)
		status.Conditions = setCondition(status.Conditions, "Deployed", err == nil, message(err))
		if err != nil {
			log.Printf("%s: %v", deployment.Name, err)
			status.Display.State, status.Ready = "ErrApplied", false
			return nil
		}
		status.AppliedDeploymentID = deployment.Spec.DeploymentID
		status.Release = deployment.Spec.Options.DefaultNamespace + "/" + releaseName(deployment)
	}
	err := f.look(ctx, deployment)
	status.Conditions = setCondition(status.Conditions, "Monitored", err == nil, message(err))
	status.Conditions = setCondition(status.Conditions, "Ready", err == nil && status.Ready, "")
	switch {
	case err != nil:
		status.Display.State = "ErrApplied"
	case !status.NonModified:
		status.Display.State = "Modified"
	case !status.Ready:
		status.Display.State = "NotReady"
	default:
		status.Display.State = "Ready"
	}
	return nil
}

// said is why a deployment is not ready.
func said(deployment *BundleDeployment) string {
	status := deployment.Status
	var parts []string
	for _, condition := range status.Conditions {
		if condition.Status == "False" && condition.Message != "" {
			parts = append(parts, condition.Message)
		}
	}
	for _, item := range status.ModifiedStatus {
		word := map[bool]string{true: "missing", false: "modified"}[item.Missing]
		parts = append(parts, fmt.Sprintf("%s %s/%s %s", strings.ToLower(item.Kind), item.Namespace, item.Name, word))
	}
	for _, item := range status.NonReadyStatus {
		parts = append(parts, fmt.Sprintf("%s %s/%s [%s]", strings.ToLower(item.Kind), item.Namespace, item.Name, strings.Join(item.Summary.Message, "; ")))
	}
	return strings.Join(parts, "; ")
}

func count(summary *Summary, state string, fresh bool) {
	if fresh {
		*summary = Summary{}
	}
	summary.DesiredReady++
	*map[string]*int{
		"Ready": &summary.Ready, "ErrApplied": &summary.ErrApplied, "WaitApplied": &summary.WaitApplied,
		"Modified": &summary.Modified, "NotReady": &summary.NotReady, "": &summary.Pending, "OutOfSync": &summary.OutOfSync,
	}[state]++
}

// summarize counts the states of everything the repository brought.
func (f *Fleet) summarize(ctx context.Context, repo *GitRepo, selector string) error {
	status := &repo.Status
	deployments, err := list[BundleDeployment](ctx, f.resource("bundledeployments", f.deployments), selector)
	if err != nil {
		return err
	}
	bundles, err := list[Bundle](ctx, f.resource("bundles", repo.Namespace), selector)
	if err != nil {
		return err
	}
	status.Summary, status.Display = Summary{}, Display{}
	var problems []string
	for _, deployment := range deployments {
		state := deployment.Status.Display.State
		if deployment.Status.AppliedDeploymentID != deployment.Spec.DeploymentID && state == "Ready" {
			state = "OutOfSync" // a new commit that nobody has looked at yet
		}
		count(&status.Summary, state, false)
		if state != "Ready" {
			status.Display.State, status.Display.Message = state, said(deployment)
			problems = append(problems, fmt.Sprintf("%s(1) [Bundle %s%s]", state, deployment.Name, prefixed("; ", said(deployment))))
		}
	}
	// a bundle that has no deployment yet
	for range len(bundles) - len(deployments) {
		count(&status.Summary, "", false)
		problems = append(problems, "Pending(1)")
	}
	status.DesiredReadyClusters, status.ReadyClusters = 0, 0
	if len(bundles) > 0 {
		status.DesiredReadyClusters = 1
		if len(problems) == 0 {
			status.ReadyClusters = 1
		}
	}
	status.Display.Error = status.Display.Message != ""
	status.Display.ReadyBundleDeployments = fmt.Sprintf("%d/%d", status.Summary.Ready, status.Summary.DesiredReady)
	status.Conditions = setCondition(status.Conditions, "Ready", len(problems) == 0, strings.Join(problems, "; "))
	return nil
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
