package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	etcdDir  = serverDir + "/db/etcd"
	nameFile = serverDir + "/db/etcd-name"
)

// membership is the answer to a request to join: all peers, the new one included.
type membership struct {
	Name    string
	Cluster []string // name=peer URL
}

func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }

func etcdClient() (*clientv3.Client, error) {
	identity, err := tls.LoadX509KeyPair(tlsDir+"/etcd/client.crt", tlsDir+"/etcd/client.key")
	if err != nil {
		return nil, err
	}
	return clientv3.New(clientv3.Config{
		Endpoints: []string{"https://127.0.0.1:2379"}, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
		TLS: &tls.Config{Certificates: []tls.Certificate{identity}, RootCAs: certPool(tlsDir + "/etcd/server-ca.crt")},
	})
}

var sharedEtcd = sync.OnceValues(etcdClient)

// withEtcd uses the one client of this process; it connects again by itself.
func withEtcd(ctx context.Context, do func(context.Context, *clientv3.Client) error) error {
	c, err := sharedEtcd()
	if err != nil {
		return err
	}
	return do(ctx, c)
}

// memberName is <node>-<8 hex digits>, kept: a rebuilt node is a new member.
func memberName(config Config) string {
	if text, err := os.ReadFile(nameFile); err == nil {
		return strings.TrimSpace(string(text))
	}
	random := make([]byte, 4)
	_, err := rand.Read(random)
	must(err, "making a member name")
	name := config.nodeName() + "-" + hex.EncodeToString(random)
	writeFile(nameFile, []byte(name), 0o600)
	return name
}

func peerURL(config Config) string { return "https://" + config.nodeIP() + ":2380" }

// joinServers fetches the cluster's keys and is added to etcd as a learner; there can be only one learner at a time.
func joinServers(config Config, server string) *membership {
	tokenText := config.get("token", "")
	if tokenText == "" {
		fatal("--token is required to join a server")
	}
	var c client
	until(5*time.Minute, "reaching "+server, func() (err error) {
		c, _, err = connect(server, tokenText, "server")
		if err != nil {
			logf("warning", "waiting for %s: %v", server, err)
			time.Sleep(time.Second)
		}
		return err
	})
	answer, status, err := c.call(http.MethodGet, "/v1-k3s/server-bootstrap", nil)
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		fatal("failed to get CA certs: %v", err)
	}
	must(err, "fetching the bootstrap data from "+server)
	var files map[string][]byte
	must(json.Unmarshal(answer, &files), "parsing the bootstrap data")
	refuseDifferent(config.critical(), files[criticalFile])
	for path, text := range files {
		writeFile(path, text, 0o600)
	}
	query := "?" + url.Values{"name": {memberName(config)}, "peer": {peerURL(config)}, "node": {config.nodeName()}}.Encode()
	member := &membership{}
	until(5*time.Minute, "joining etcd", func() error {
		answer, _, err := c.call(http.MethodPost, "/v1-k3s/etcd-member"+query, nil)
		if err != nil {
			logf("warning", "Failed to join etcd cluster, retrying: %v", err)
			time.Sleep(time.Second)
			return err
		}
		return json.Unmarshal(answer, member)
	})
	return member
}

// addMember adds a learner. A member of the same node that never came up, or belongs to its earlier life, is removed first.
func (s *supervisor) addMember(w http.ResponseWriter, r *http.Request) {
	name, peer, node := r.URL.Query().Get("name"), r.URL.Query().Get("peer"), r.URL.Query().Get("node")
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	answer := membership{Name: name}
	err := withEtcd(ctx, func(ctx context.Context, c *clientv3.Client) error {
		list, err := c.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, member := range list.Members {
			if len(member.PeerURLs) > 0 && member.PeerURLs[0] == peer || member.Name != "" && nodeOf(member.Name) == node {
				logf("info", "removing the stale etcd member %s of node %s", member.Name, node)
				if _, err := c.MemberRemove(ctx, member.ID); err != nil {
					return err
				}
			}
		}
		added, err := c.MemberAddAsLearner(ctx, []string{peer})
		if err != nil {
			return err
		}
		for _, member := range added.Members {
			memberName := member.Name
			if member.ID == added.Member.ID {
				memberName = name
			}
			answer.Cluster = append(answer.Cluster, memberName+"="+member.PeerURLs[0])
		}
		return nil
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	sendJSON(w, answer)
}

func nodeOf(member string) string {
	if index := strings.LastIndex(member, "-"); index > 0 {
		return member[:index]
	}
	return member
}

func startEtcd(processes *children, config Config, member *membership) {
	name, address, t := memberName(config), config.nodeIP(), tlsDir+"/etcd"
	arguments := []string{
		"--name=" + name, "--data-dir=" + etcdDir,
		"--listen-client-urls=https://127.0.0.1:2379,https://" + address + ":2379", "--advertise-client-urls=https://" + address + ":2379",
		"--listen-peer-urls=https://" + address + ":2380,https://127.0.0.1:2380", "--initial-advertise-peer-urls=" + peerURL(config),
		"--cert-file=" + t + "/server-client.crt", "--key-file=" + t + "/server-client.key", "--trusted-ca-file=" + t + "/server-ca.crt",
		"--client-cert-auth", "--peer-cert-file=" + t + "/peer-server-client.crt", "--peer-key-file=" + t + "/peer-server-client.key",
		"--peer-trusted-ca-file=" + t + "/peer-ca.crt", "--peer-client-cert-auth", "--log-level=warn",
		"--heartbeat-interval=500", "--election-timeout=5000", "--snapshot-count=10000",
		"--watch-progress-notify-interval=5s",
	}
	metrics := "http://127.0.0.1:2381"
	if config.on("etcd-expose-metrics") {
		metrics += ",http://" + address + ":2381"
	}
	arguments = append(arguments, "--listen-metrics-urls="+metrics)
	if member != nil {
		arguments = append(arguments, "--initial-cluster-state=existing", "--initial-cluster="+strings.Join(member.Cluster, ","))
	} else {
		arguments = append(arguments, "--initial-cluster-state=new", "--initial-cluster="+name+"="+peerURL(config))
	}
	processes.start("etcd", arguments...)
}

// promoteSelf waits until this member votes, asking the others to promote it when it is a learner.
func promoteSelf(config Config) {
	name := memberName(config)
	until(5*time.Minute, "becoming a voting etcd member", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return withEtcd(ctx, func(ctx context.Context, c *clientv3.Client) error {
			status, err := c.Status(ctx, "https://127.0.0.1:2379")
			if err != nil {
				return err
			}
			if !status.IsLearner {
				return nil
			}
			join := config.get("server", "")
			if join == "" {
				return fmt.Errorf("%s is a learner and no server is set to promote it", name)
			}
			peer, _, err := connect(join, config.get("token", ""), "server")
			if err != nil {
				return err
			}
			_, _, err = peer.call(http.MethodPost, fmt.Sprintf("/v1-k3s/etcd-promote?id=%x", status.Header.MemberId), nil)
			if err != nil {
				return err
			}
			return fmt.Errorf("%s is promoted, waiting for it to vote", name)
		})
	})
}

func (s *supervisor) promoteMember(w http.ResponseWriter, r *http.Request) {
	var id uint64
	if _, err := fmt.Sscanf(r.URL.Query().Get("id"), "%x", &id); err != nil {
		http.Error(w, "bad id", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	err := withEtcd(ctx, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.MemberPromote(ctx, id)
		return err
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// votingAddresses are the node addresses of the servers whose etcd votes.
func votingAddresses(ctx context.Context) (hosts []string, err error) {
	err = withEtcd(ctx, func(ctx context.Context, c *clientv3.Client) error {
		list, err := c.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, member := range list.Members {
			if member.IsLearner || len(member.PeerURLs) == 0 {
				continue
			}
			if address, err := url.Parse(member.PeerURLs[0]); err == nil {
				hosts = append(hosts, address.Hostname())
			}
		}
		return nil
	})
	return hosts, err
}

func removeMembersOf(node string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := withEtcd(ctx, func(ctx context.Context, c *clientv3.Client) error {
		list, err := c.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, member := range list.Members {
			if nodeOf(member.Name) == node {
				logf("info", "node %s was deleted: removing its etcd member %s", node, member.Name)
				if _, err := c.MemberRemove(ctx, member.ID); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		logf("warning", "removing the etcd member of %s: %v", node, err)
	}
}
