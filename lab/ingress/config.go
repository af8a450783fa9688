package main

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"regexp"
	"slices"
	"sort"
	"strings"
)

// What the annotations may say, and what holds without them: F5's defaults.
var (
	sizes    = regexp.MustCompile(`^\d+[kKmMgG]?$`)
	times    = regexp.MustCompile(`^(\d+(ms|[smhd])? ?)+$`)
	switches = regexp.MustCompile(`^(True|False)$`)
	spelling = map[string]string{"True": "on", "False": "off"}
	prefix   = regexp.MustCompile(`^nginx\.(org|com)/`)
	setting  = map[string]struct {
		directive, value string
		valid            *regexp.Regexp
	}{
		"nginx.org/client-max-body-size":  {"client_max_body_size", "1m", sizes},
		"nginx.org/proxy-buffering":       {"proxy_buffering", "True", switches},
		"nginx.org/proxy-connect-timeout": {"proxy_connect_timeout", "60s", times},
		"nginx.org/proxy-read-timeout":    {"proxy_read_timeout", "60s", times},
		"nginx.org/proxy-send-timeout":    {"proxy_send_timeout", "60s", times},
	}
)

const (
	websocketServices = "nginx.org/websocket-services"
	refuseTLS         = "  ssl_reject_handshake on;\n"
	head              = `worker_processes 2;
error_log stderr notice;
pid /tmp/nginx.pid;
events { worker_connections 4096; }
http {
access_log off;
server_tokens off;
client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi; uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
map $http_upgrade $connection_upgrade { default upgrade; "" close; }
server {
  listen 80 default_server;
  listen 443 ssl default_server;
  ssl_reject_handshake on;
  server_name _;
  return 404;
}
`
)

// rejection is why an Ingress is not served.
type rejection struct {
	item ingress
	why  string
}

// configuration is nginx.conf, and the files it refers to, named by their content. Ingresses of other classes are not looked at. Of two
// that name the same host the older one has it.
func configuration(seen cluster, class string) (text string, files map[string][]byte, served []ingress, rejected []rejection) {
	var mine []ingress
	for _, item := range seen.ingresses {
		if item.Spec.IngressClassName == class {
			mine = append(mine, item)
		}
	}
	sort.Slice(mine, func(a, b int) bool {
		first, second := mine[a].Metadata, mine[b].Metadata
		if !first.CreationTimestamp.Equal(second.CreationTimestamp) {
			return first.CreationTimestamp.Before(second.CreationTimestamp)
		}
		return first.UID < second.UID
	})
	text, files, taken := head, map[string][]byte{}, map[string]bool{}
	for _, item := range mine {
		if why := problem(item, taken); why != "" {
			rejected = append(rejected, rejection{item, why})
			continue
		}
		for _, rule := range item.Spec.Rules {
			taken[rule.Host] = true
		}
		text += servers(seen, item, files)
		served = append(served, item)
	}
	return text + "}\n", files, served, rejected
}

func problem(item ingress, taken map[string]bool) string {
	for name, value := range item.Metadata.Annotations {
		known, found := setting[name]
		switch {
		case found && !known.valid.MatchString(value):
			return fmt.Sprintf("annotations.%s: Invalid value: %q", name, value)
		case !found && name != websocketServices && prefix.MatchString(name):
			return fmt.Sprintf("the rehearsal lab does not implement the annotation %s", name)
		}
	}
	if len(item.Spec.DefaultBackend) > 0 {
		return "the rehearsal lab does not implement spec.defaultBackend"
	}
	for _, rule := range item.Spec.Rules {
		if rule.Host == "" {
			return "spec.rules.host: Required value"
		}
		if taken[rule.Host] {
			return fmt.Sprintf("All hosts are taken by other resources: %s", rule.Host)
		}
	}
	return ""
}

func servers(seen cluster, item ingress, files map[string][]byte) (text string) {
	space := item.Metadata.Namespace
	websockets := strings.Split(item.Metadata.Annotations[websocketServices], ",")
	for _, rule := range item.Spec.Rules {
		var upstreams, locations string
		for index, path := range rule.HTTP.Paths {
			name := fmt.Sprintf("%s-%s-%s-%d", space, item.Metadata.Name, rule.Host, index)
			backend := path.Backend.Service
			upstreams += "upstream " + name + " {\n"
			for _, address := range addresses(seen, space, backend.Name, backend.Port) {
				upstreams += "  server " + address + ";\n"
			}
			upstreams += "}\n"
			match := path.Path
			if path.PathType == "Exact" {
				match = "= " + match
			}
			locations += "  location " + match + " {\n    proxy_http_version 1.1;\n"
			if slices.Contains(websockets, backend.Name) {
				locations += "    proxy_set_header Upgrade $http_upgrade;\n    proxy_set_header Connection $connection_upgrade;\n"
			}
			locations += settings(item) + `    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Host $host;
    proxy_set_header X-Forwarded-Port $server_port;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_pass http://` + name + ";\n  }\n"
		}
		text += upstreams + "server {\n  listen 80;\n  server_name " + rule.Host + ";\n" + encryption(seen, item, rule.Host, files) + locations + "}\n"
	}
	return text
}

// encryption is for hosts that spec.tls names: plain requests are sent there. Without a usable Secret nobody gets through.
func encryption(seen cluster, item ingress, host string, files map[string][]byte) string {
	for _, entry := range item.Spec.TLS {
		if !slices.Contains(entry.Hosts, host) {
			continue
		}
		text := "  listen 443 ssl;\n  if ($scheme = http) { return 301 https://$host:443$request_uri; }\n"
		for _, found := range seen.secrets {
			if found.Metadata.Namespace != item.Metadata.Namespace || found.Metadata.Name != entry.SecretName {
				continue
			}
			if _, err := tls.X509KeyPair(found.Data["tls.crt"], found.Data["tls.key"]); err != nil {
				break
			}
			content := slices.Concat(found.Data["tls.crt"], []byte("\n"), found.Data["tls.key"])
			name := fmt.Sprintf("%x.pem", sha256.Sum256(content))
			files[name] = content
			return text + fmt.Sprintf("  ssl_certificate /tmp/%[1]s;\n  ssl_certificate_key /tmp/%[1]s;\n", name)
		}
		return text + refuseTLS
	}
	return ""
}

func settings(item ingress) string {
	names := make([]string, 0, len(setting))
	for name := range setting {
		names = append(names, name)
	}
	sort.Strings(names)
	text := ""
	for _, name := range names {
		value := setting[name].value
		if own, found := item.Metadata.Annotations[name]; found {
			value = own
		}
		if nginxs, found := spelling[value]; found {
			value = nginxs
		}
		text += fmt.Sprintf("    %s %s;\n", setting[name].directive, value)
	}
	return text
}

// addresses are the ready endpoints of a service's port; without any, one that nobody answers at, so that it is a 502.
func addresses(seen cluster, space, name string, wanted backendPort) (found []string) {
	for _, service := range seen.services {
		if service.Metadata.Namespace != space || service.Metadata.Name != name {
			continue
		}
		for _, port := range service.Spec.Ports {
			if port.Port != wanted.Number && (wanted.Name == "" || port.Name != wanted.Name) {
				continue
			}
			for _, slice := range seen.slices {
				if slice.Metadata.Namespace == space && slice.Metadata.Labels["kubernetes.io/service-name"] == name {
					found = append(found, ready(slice, port.Name)...)
				}
			}
		}
	}
	if len(found) == 0 {
		return []string{"127.0.0.1:8181"}
	}
	sort.Strings(found)
	return slices.Compact(found)
}

func ready(slice endpointSlice, port string) (found []string) {
	for _, candidate := range slice.Ports {
		for _, endpoint := range slice.Endpoints {
			if candidate.Name != port || endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
				continue
			}
			for _, address := range endpoint.Addresses {
				found = append(found, net.JoinHostPort(address, fmt.Sprint(candidate.Port)))
			}
		}
	}
	return found
}
