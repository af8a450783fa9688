// Command ingress is the lab's NGINX Ingress Controller: it writes the configuration of a real nginx from Ingresses,
// Services, EndpointSlices and TLS Secrets. Defaults, annotations and refusals are those of F5's controller.
package main

import (
	"flag"
	"log"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	nginx = "/usr/sbin/nginx"
	file  = "/tmp/nginx.conf"
)

func main() {
	class := flag.String("ingress-class", "nginx", "name of the IngressClass")
	address := flag.String("external-status-address", "", "address that Ingresses of the class report")
	flag.Parse()
	var serving, stopping atomic.Bool
	http.HandleFunc("/nginx-ready", func(answer http.ResponseWriter, _ *http.Request) {
		if !serving.Load() {
			answer.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	go func() { log.Fatal(http.ListenAndServe(":8081", nil)) }()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	var server *exec.Cmd
	last, told := "", map[string]bool{}
	for {
		seen, err := observe()
		if err != nil {
			log.Printf("observing: %v", err)
		} else {
			text, files, rejected := configuration(seen, *class)
			for _, one := range rejected {
				if key := one.item.Metadata.UID + one.why; !told[key] {
					told[key] = true
					log.Printf("rejected %s/%s: %s", one.item.Metadata.Namespace, one.item.Metadata.Name, one.why)
					if err := tell(one.item, one.why); err != nil {
						log.Printf("telling so: %v", err)
					}
				}
			}
			for _, item := range seen.ingresses {
				if *address != "" && item.Spec.IngressClassName == *class && !item.reports(*address) {
					if err := report(item, *address); err != nil {
						log.Printf("reporting the address: %v", err)
					}
				}
			}
			if text != last && write(text, files) {
				last = text
				if server == nil {
					server = start(&stopping)
				} else if err := server.Process.Signal(syscall.SIGHUP); err != nil {
					log.Fatalf("reloading nginx: %v", err)
				}
				serving.Store(true)
			}
		}
		select {
		case <-stop:
			if server == nil {
				return
			}
			stopping.Store(true)
			_ = server.Process.Signal(syscall.SIGQUIT) // its end is ours
		case <-time.After(time.Second):
		}
	}
}

// write puts the configuration in place if nginx accepts it; whether it did.
func write(text string, files map[string][]byte) bool {
	for name, content := range files {
		if err := os.WriteFile(filepath.Join("/tmp", name), content, 0o600); err != nil {
			log.Fatal(err)
		}
	}
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		log.Fatal(err)
	}
	if said, err := exec.Command(nginx, "-e", "stderr", "-t", "-q", "-c", file+".new").CombinedOutput(); err != nil {
		log.Printf("nginx refuses the configuration: %s", said)
		return false
	}
	if err := os.Rename(file+".new", file); err != nil {
		log.Fatal(err)
	}
	log.Print("configuration written")
	return true
}

func start(stopping *atomic.Bool) *exec.Cmd {
	server := exec.Command(nginx, "-e", "stderr", "-c", file, "-g", "daemon off;")
	server.Stdout, server.Stderr = os.Stderr, os.Stderr
	if err := server.Start(); err != nil {
		log.Fatalf("starting nginx: %v", err)
	}
	go func() {
		err := server.Wait()
		if stopping.Load() {
			os.Exit(0)
		}
		log.Fatalf("nginx ended: %v", err)
	}()
	return server
}
