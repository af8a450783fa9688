// Command ingress is the lab's NGINX Ingress Controller: it writes the configuration of a real nginx from Ingresses,
// Services, EndpointSlices and TLS Secrets. Defaults, annotations and refusals are those of F5's controller.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"gpuctl.lab/incluster"
)

const (
	nginx = "/usr/sbin/nginx"
	file  = "/tmp/nginx.conf"
)

// controller is what is known between two looks at the cluster.
type controller struct {
	class, address    string
	last              string
	told              map[string]bool
	server            *exec.Cmd
	serving, stopping atomic.Bool
}

func main() {
	c := &controller{told: map[string]bool{}}
	flag.StringVar(&c.class, "ingress-class", "nginx", "name of the IngressClass")
	flag.StringVar(&c.address, "external-status-address", "", "what Ingresses report as their address")
	flag.Parse()
	http.HandleFunc("/nginx-ready", func(answer http.ResponseWriter, _ *http.Request) {
		if !c.serving.Load() {
			answer.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	go func() { incluster.Must(http.ListenAndServe(":8081", nil), "listening") }()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		c.stopping.Store(true)
		if !c.serving.Load() {
			os.Exit(0)
		}
		_ = c.server.Process.Signal(syscall.SIGQUIT) // its end is ours
	}()
	incluster.Forever(time.Second, c.step)
}

func (c *controller) step() error {
	seen, err := observe()
	if err != nil {
		return err
	}
	text, files, served, rejected := configuration(seen, c.class)
	for _, one := range rejected {
		if key := one.item.Metadata.UID + one.why; !c.told[key] {
			incluster.Logf("rejected %s/%s: %s", one.item.Metadata.Namespace, one.item.Metadata.Name, one.why)
			if err := tell(one.item, one.why); err != nil {
				return err
			}
			c.told[key] = true
		}
	}
	if text != c.last {
		if err := write(text, files); err != nil {
			return err
		}
		c.last = text
		if c.server == nil {
			c.start()
		} else if err := c.server.Process.Signal(syscall.SIGHUP); err != nil {
			return err
		}
	}
	for _, item := range served {
		if err := report(item, c.address); err != nil {
			return err
		}
	}
	return nil
}

// write puts the configuration in place if nginx accepts it.
func write(text string, files map[string][]byte) error {
	for name, content := range files {
		if err := os.WriteFile(filepath.Join("/tmp", name), content, 0o600); err != nil {
			return err
		}
	}
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		return err
	}
	if said, err := exec.Command(nginx, "-e", "stderr", "-t", "-q", "-c", file+".new").CombinedOutput(); err != nil {
		return fmt.Errorf("nginx refuses the configuration: %s", said)
	}
	incluster.Logf("configuration written")
	return os.Rename(file+".new", file)
}

func (c *controller) start() {
	c.server = exec.Command(nginx, "-e", "stderr", "-c", file, "-g", "daemon off;")
	c.server.Stdout, c.server.Stderr = os.Stderr, os.Stderr
	incluster.Must(c.server.Start(), "starting nginx")
	go func() {
		err := c.server.Wait()
		if c.stopping.Load() {
			os.Exit(0)
		}
		incluster.Fatal("nginx ended: %v", err)
	}()
	c.serving.Store(true)
}
