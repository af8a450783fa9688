package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/storage/memory"
	"sigs.k8s.io/yaml"
)

const gitSeconds = 30 * time.Second

// credentials of the repository: the Secret that the GitRepo names, of the type that Kubernetes has for them.
func (f *Fleet) credentials(repo *GitRepo) (transport.AuthMethod, error) {
	if !strings.HasPrefix(repo.Spec.Repo, "http://") && !strings.HasPrefix(repo.Spec.Repo, "https://") {
		return nil, fmt.Errorf("%s: only http and https are part of the rehearsal lab", repo.Spec.Repo)
	}
	if repo.Spec.ClientSecretName == "" {
		return nil, nil
	}
	secret, err := f.secret(repo.Namespace, repo.Spec.ClientSecretName)
	if err != nil {
		return nil, fmt.Errorf("failed to look up clientSecretName, error: %w", err)
	}
	if secret.Type != "kubernetes.io/basic-auth" {
		return nil, fmt.Errorf("secret %s: type %s is not part of the rehearsal lab", secret.Name, secret.Type)
	}
	return &http.BasicAuth{Username: string(secret.Data["username"]), Password: string(secret.Data["password"])}, nil
}

func branch(repo *GitRepo) string {
	if repo.Spec.Branch == "" {
		return "master" // Fleet's default
	}
	return repo.Spec.Branch
}

// latestCommit asks the remote for the head of the branch.
func (f *Fleet) latestCommit(ctx context.Context, repo *GitRepo) (string, error) {
	auth, err := f.credentials(repo)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, gitSeconds)
	defer cancel()
	remote := git.NewRemote(memory.NewStorage(), &config.RemoteConfig{Name: "origin", URLs: []string{repo.Spec.Repo}})
	references, err := remote.ListContext(ctx, &git.ListOptions{Auth: auth, CABundle: repo.Spec.CABundle})
	if err != nil && !errors.Is(err, transport.ErrEmptyRemoteRepository) {
		return "", err
	}
	for _, reference := range references {
		if reference.Name() == plumbing.NewBranchReferenceName(branch(repo)) {
			return reference.Hash().String(), nil
		}
	}
	return "", fmt.Errorf("commit not found for branch: %s", branch(repo))
}

// bundles are what the commit holds below the paths: one for every folder with a fleet.yaml.
func (f *Fleet) bundles(ctx context.Context, repo *GitRepo, commit string) ([]*Bundle, error) {
	auth, err := f.credentials(repo)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, gitSeconds)
	defer cancel()
	clone, err := git.CloneContext(ctx, memory.NewStorage(), nil, &git.CloneOptions{
		URL: repo.Spec.Repo, Auth: auth, CABundle: repo.Spec.CABundle, Depth: 1, SingleBranch: true, Tags: git.NoTags,
		ReferenceName: plumbing.NewBranchReferenceName(branch(repo)),
	})
	if err != nil {
		return nil, err
	}
	head, err := clone.CommitObject(plumbing.NewHash(commit))
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", commit, err)
	}
	tree, err := head.Tree()
	if err != nil {
		return nil, err
	}
	paths := repo.Spec.Paths
	if len(paths) == 0 {
		paths = []string{"."}
	}
	var found []*Bundle
	for _, root := range paths {
		made, err := bundlesBelow(repo, commit, tree, strings.Trim(root, "/"))
		if err != nil {
			return nil, err
		}
		found = append(found, made...)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no resource found at the following paths to deploy: %v", paths)
	}
	return found, nil
}

func bundlesBelow(repo *GitRepo, commit string, tree *object.Tree, root string) ([]*Bundle, error) {
	files := map[string][]byte{}
	err := tree.Files().ForEach(func(file *object.File) error {
		if root != "." && !strings.HasPrefix(file.Name, root+"/") {
			return nil
		}
		reader, err := file.Reader()
		if err != nil {
			return err
		}
		defer reader.Close()
		data, err := io.ReadAll(reader)
		files[file.Name] = data
		return err
	})
	if err != nil {
		return nil, err
	}
	var found []*Bundle
	for _, name := range sorted(files) {
		if path.Base(name) != "fleet.yaml" {
			continue
		}
		made, err := bundle(repo, commit, path.Dir(name), files)
		if err != nil {
			return nil, err
		}
		found = append(found, made)
	}
	return found, nil
}

func bundle(repo *GitRepo, commit, folder string, files map[string][]byte) (*Bundle, error) {
	var description FleetYaml
	if err := yaml.UnmarshalStrict(files[folder+"/fleet.yaml"], &description); err != nil {
		return nil, fmt.Errorf("reading %s/fleet.yaml: %w", folder, err)
	}
	if description.Helm == nil || description.Helm.Chart != "./chart" || description.Helm.Repo != "" || description.Helm.Version != "" {
		return nil, fmt.Errorf("%s/fleet.yaml: only charts in the bundle (./chart) are part of the rehearsal lab", folder)
	}
	made := &Bundle{}
	made.APIVersion, made.Kind = group+"/"+version, "Bundle"
	made.Name, made.Namespace = bundleName(repo.Name+"/"+folder), repo.Namespace
	made.Labels = map[string]string{repoLabel: repo.Name, commitMark: commit}
	made.Spec = BundleSpec{Options: description.Options, DependsOn: description.DependsOn, Targets: []Target{{cluster}}}
	made.Spec.CorrectDrift = repo.Spec.CorrectDrift
	for _, name := range sorted(files) {
		inside, ok := strings.CutPrefix(name, folder+"/")
		if !ok || inside == "fleet.yaml" {
			continue
		}
		resource := Resource{Name: inside, Content: string(files[name])}
		if !utf8.Valid(files[name]) {
			resource.Content, resource.Encoding = base64.StdEncoding.EncodeToString(files[name]), "base64"
		}
		made.Spec.Resources = append(made.Spec.Resources, resource)
	}
	return made, nil
}

// contents are a bundle's files by name.
func contents(resources []Resource) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, resource := range resources {
		data := []byte(resource.Content)
		if resource.Encoding == "base64" {
			decoded, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(data)))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", resource.Name, err)
			}
			data = decoded
		}
		files[resource.Name] = data
	}
	return files, nil
}

func sorted[V any](values map[string]V) []string {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
