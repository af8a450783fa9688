package main

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

const serversFile = agentDir + "/etc/k3s-agent-load-balancer.json"

func rememberServers(hosts []string) {
	if len(hosts) > 0 {
		text, err := json.Marshal(hosts)
		must(err, "encoding the servers")
		writeFile(serversFile, text, 0o600)
	}
}

func rememberedServers() (urls []string) {
	var hosts []string
	if text, err := os.ReadFile(serversFile); err == nil && json.Unmarshal(text, &hosts) == nil {
		for _, host := range hosts {
			urls = append(urls, "https://"+host+":"+apiPort)
		}
	}
	return urls
}

// balancer is an agent's own way to the API: 127.0.0.1:6444 to any server that answers, as K3s' client load balancer.
type balancer struct {
	config Config
	client client
	mutex  sync.Mutex
	hosts  []string // the healthy ones first
	open   map[net.Conn]string
}

func newBalancer(config Config, c client) *balancer {
	return &balancer{config: config, client: c, hosts: []string{hostOf(c.base)}, open: map[net.Conn]string{}}
}

func hostOf(base string) string {
	host, _, err := net.SplitHostPort(base[len("https://"):])
	must(err, "parsing "+base)
	return host
}

func (b *balancer) start() {
	listener, err := net.Listen("tcp", "127.0.0.1:6444")
	must(err, "listening on 127.0.0.1:6444")
	go b.refresh()
	go b.watchHealth()
	go func() {
		for {
			incoming, err := listener.Accept()
			must(err, "accepting on 127.0.0.1:6444")
			go b.forward(incoming)
		}
	}()
}

func (b *balancer) order() []string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return slices.Clone(b.hosts)
}

func (b *balancer) forward(incoming net.Conn) {
	defer incoming.Close()
	for _, host := range b.order() {
		outgoing, err := net.DialTimeout("tcp", net.JoinHostPort(host, apiPort), 2*time.Second)
		if err != nil {
			continue
		}
		b.mutex.Lock()
		b.open[outgoing] = host
		b.mutex.Unlock()
		go func() { _, _ = io.Copy(outgoing, incoming); outgoing.Close() }()
		_, _ = io.Copy(incoming, outgoing)
		b.mutex.Lock()
		delete(b.open, outgoing)
		b.mutex.Unlock()
		return
	}
}

// refresh learns the servers from whichever answers.
func (b *balancer) refresh() {
	for ; ; time.Sleep(10 * time.Second) {
		for _, host := range b.order() {
			c := b.client
			c.base = "https://" + net.JoinHostPort(host, apiPort)
			answer, _, err := c.call(http.MethodGet, "/v1-k3s/config", nil)
			var cluster agentConfig
			if err != nil || json.Unmarshal(answer, &cluster) != nil || len(cluster.Servers) == 0 {
				continue
			}
			b.mutex.Lock()
			for _, server := range cluster.Servers {
				if !slices.Contains(b.hosts, server) {
					b.hosts = append(b.hosts, server)
				}
			}
			first := hostOf(b.client.base)
			b.hosts = slices.DeleteFunc(b.hosts, func(h string) bool { return !slices.Contains(cluster.Servers, h) && h != first })
			b.mutex.Unlock()
			rememberServers(cluster.Servers)
			break
		}
	}
}

// watchHealth moves servers that do not answer to the end and closes the connections that hang on them.
func (b *balancer) watchHealth() {
	for ; ; time.Sleep(3 * time.Second) {
		for _, host := range b.order() {
			if alive(host) {
				continue
			}
			b.mutex.Lock()
			b.hosts = append(slices.DeleteFunc(b.hosts, func(h string) bool { return h == host }), host)
			for connection, to := range b.open {
				if to == host {
					connection.Close()
				}
			}
			b.mutex.Unlock()
		}
	}
}

// alive asks a server for its pulse: a frozen one still accepts connections.
func alive(host string) bool {
	response, err := pinger.Get("https://" + net.JoinHostPort(host, apiPort) + "/ping")
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

var pinger = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
	TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
