package incluster

import (
	"fmt"
	"os"
	"time"
)

// Fatal says why and ends the program.
func Fatal(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

// Must ends the program on an error.
func Must(err error, doing string) {
	if err != nil {
		Fatal("%s: %v", doing, err)
	}
}

// Logf prints a line with the time.
func Logf(format string, values ...any) {
	fmt.Printf("%s "+format+"\n", append([]any{time.Now().UTC().Format(time.RFC3339)}, values...)...)
}

// Forever calls step again and again with this pause; an error is logged and tried again, as a controller does.
func Forever(pause time.Duration, step func() error) {
	for last := ""; ; time.Sleep(pause) {
		said := ""
		if err := step(); err != nil {
			said = err.Error()
		}
		if said != "" && said != last {
			Logf("error: %s", said)
		}
		last = said
	}
}

// Rest ends only with the pod.
func Rest() {
	for {
		time.Sleep(time.Hour)
	}
}
