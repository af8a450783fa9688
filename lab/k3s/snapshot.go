package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const snapshotDir = serverDir + "/db/snapshots"

// saveSnapshot writes <name>-<node>-<unix time> through the local etcd; the file ends with its sha256, as etcd makes it.
func saveSnapshot(name, node string) (string, error) {
	if err := os.MkdirAll(snapshotDir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(snapshotDir, fmt.Sprintf("%s-%s-%d", name, node, time.Now().Unix()))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	err := withEtcd(ctx, func(ctx context.Context, c *clientv3.Client) error {
		stream, err := c.Snapshot(ctx)
		if err != nil {
			return err
		}
		defer stream.Close()
		file, err := os.OpenFile(path+".part", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		if _, err = io.Copy(file, stream); err == nil {
			err = file.Sync()
		}
		if closing := file.Close(); err == nil {
			err = closing
		}
		if err == nil {
			err = os.Rename(path+".part", path)
		}
		return err
	})
	return path, err
}

func scheduleSnapshots(config Config) {
	if config.on("etcd-disable-snapshots") {
		return
	}
	keep, err := strconv.Atoi(config.get("etcd-snapshot-retention", "5"))
	must(err, "parsing etcd-snapshot-retention")
	schedule := cron.New(cron.WithLocation(time.UTC))
	_, err = schedule.AddFunc(config.get("etcd-snapshot-schedule-cron", "0 */12 * * *"), func() {
		if path, err := saveSnapshot("etcd-snapshot", config.nodeName()); err != nil {
			logf("error", "etcd snapshot failed: %v", err)
		} else {
			logf("info", "etcd snapshot saved: %s", path)
			prune("etcd-snapshot-"+config.nodeName()+"-", keep)
		}
	})
	must(err, "parsing etcd-snapshot-schedule-cron")
	schedule.Start()
}

func prune(prefix string, keep int) {
	files, _ := filepath.Glob(filepath.Join(snapshotDir, prefix+"*"))
	slices.Sort(files)
	for len(files) > keep {
		_ = os.Remove(files[0])
		files = files[1:]
	}
}

func snapshotCommand(arguments []string) {
	config := loadConfig("server", nil)
	action := "save"
	if len(arguments) > 0 {
		action = arguments[0]
	}
	switch action {
	case "save":
		name := "on-demand"
		rest := strings.ReplaceAll(strings.Join(arguments[1:], " "), "--name ", "--name=")
		for _, argument := range strings.Fields(rest) {
			value, found := strings.CutPrefix(argument, "--name=")
			if !found {
				fatal("k3s etcd-snapshot save %s: not part of the rehearsal lab", argument)
			}
			name = value
		}
		path, err := saveSnapshot(name, config.nodeName())
		must(err, "saving a snapshot")
		fmt.Printf("Snapshot %s saved.\n", filepath.Base(path))
	case "ls", "list":
		listSnapshots(slices.Contains(arguments, "json") || slices.Contains(arguments, "--output=json"), config.nodeName())
	default:
		fatal("k3s etcd-snapshot %s: not part of the rehearsal lab", action)
	}
}

func listSnapshots(asJSON bool, node string) {
	files, _ := filepath.Glob(snapshotDir + "/*")
	slices.Sort(files)
	items := []map[string]any{}
	for _, path := range files {
		information, err := os.Stat(path)
		if err != nil || strings.HasSuffix(path, ".part") {
			continue
		}
		items = append(items, map[string]any{
			"metadata": map[string]any{"name": filepath.Base(path), "creationTimestamp": information.ModTime().UTC().Format(time.RFC3339)},
			"spec":     map[string]any{"snapshotName": filepath.Base(path), "location": "file://" + path, "nodeName": node},
			"status":   map[string]any{"size": information.Size(), "readyToUse": true},
		})
	}
	if asJSON {
		must(json.NewEncoder(os.Stdout).Encode(map[string]any{"kind": "ETCDSnapshotFileList", "apiVersion": "k3s.cattle.io/v1", "items": items}), "printing")
		return
	}
	fmt.Println("Name Location Size Created")
	for _, item := range items {
		metadata, spec, status := item["metadata"].(map[string]any), item["spec"].(map[string]any), item["status"].(map[string]any)
		fmt.Println(metadata["name"], spec["location"], status["size"], metadata["creationTimestamp"])
	}
}
