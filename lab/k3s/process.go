package main

import (
	"encoding/base64"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

func encode64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// children are the components of this process. When one ends, all end, and systemd starts us again: as in K3s.
type children struct {
	mutex    sync.Mutex
	running  []*exec.Cmd
	stopping bool
	starts   chan func()
}

func newChildren() *children {
	c := &children{starts: make(chan func())}
	go func() {
		// the parent-death signal follows the thread that forked: this one never ends
		runtime.LockOSThread()
		for start := range c.starts {
			start()
		}
	}()
	return c
}

// start runs a component of this binary, or with a path any program.
func (c *children) start(name string, arguments ...string) {
	c.startWith(nil, name, arguments...)
}

func (c *children) startWith(environment []string, name string, arguments ...string) {
	program, full := "/proc/self/exe", append([]string{name}, arguments...)
	if name[0] == '/' {
		program, full = name, arguments
	}
	if resolved, err := os.Readlink(program); err == nil {
		program = resolved
	}
	command := exec.Command(program, full...)
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	command.Env = append(os.Environ(), environment...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	failed := make(chan error)
	c.starts <- func() { failed <- command.Start() }
	must(<-failed, "starting "+name)
	c.mutex.Lock()
	c.running = append(c.running, command)
	c.mutex.Unlock()
	go func() {
		_ = command.Wait()
		c.mutex.Lock()
		stopping := c.stopping
		c.mutex.Unlock()
		if !stopping {
			c.stop()
			fatal("%s exited: %s", name, command.ProcessState)
		}
	}()
}

// wait blocks until we are told to stop; then all components are ended, in reverse order.
func (c *children) wait() {
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	c.stop()
}

func (c *children) stop() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.stopping = true
	for index := len(c.running) - 1; index >= 0; index-- {
		_ = c.running[index].Process.Signal(syscall.SIGTERM)
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, command := range c.running {
		for command.ProcessState == nil && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
		}
		if command.ProcessState == nil {
			_ = command.Process.Kill()
		}
	}
}

// notifyReady tells systemd (Type=notify) that the service is up.
func notifyReady() {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	connection, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	must(err, "connecting to systemd")
	defer connection.Close()
	_, err = connection.Write([]byte("READY=1"))
	must(err, "notifying systemd")
}

// until polls a condition; fatal with the last reason when it does not come true in time.
func until(limit time.Duration, what string, condition func() error) {
	deadline := time.Now().Add(limit)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			fatal("%s: not done within %s: %v", what, limit, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func run(name string, arguments ...string) (string, error) {
	output, err := exec.Command(name, arguments...).CombinedOutput()
	return string(output), err
}
