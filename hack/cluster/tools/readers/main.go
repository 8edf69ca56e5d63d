// Command readers says of objects, and of what a container wrote, what programs that know no
// FineTuningJob take them for: a question a line on standard input, an answer a line, both JSON.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// question has an object, and of Katib and Argo what their manifests say about it.
type question struct {
	Object json.RawMessage `json:"object"`
	Katib  *conditions     `json:"katib"`
	Argo   *conditions     `json:"argo"`
	Log    *wroteLog       `json:"log"`
}

// conditions are the two expressions that both programs have, each in a language of its own.
type conditions struct {
	Success string `json:"success"`
	Failure string `json:"failure"`
}

type answer struct {
	KStatus string   `json:"kstatus,omitempty"`
	Message string   `json:"message,omitempty"`
	Katib   string   `json:"katib,omitempty"`
	Argo    string   `json:"argo,omitempty"`
	Metrics []metric `json:"metrics,omitempty"`
}

const (
	running   = "Running"
	succeeded = "Succeeded"
	failed    = "Failed"
)

func read(line []byte) (answer, error) {
	var asked question
	var found answer
	err := json.Unmarshal(line, &asked)
	if err == nil && asked.Object != nil {
		err = found.byKStatus(asked.Object)
	}
	if err == nil && asked.Katib != nil {
		found.Katib = byKatib(asked.Object, *asked.Katib)
	}
	if err == nil && asked.Argo != nil {
		found.Argo, err = byArgo(asked.Object, *asked.Argo)
	}
	if err == nil && asked.Log != nil {
		found.Metrics, err = collected(*asked.Log)
	}
	return found, err
}

// byKStatus asks what Flux, kpt and others wait by.
func (a *answer) byKStatus(raw []byte) error {
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(raw); err != nil {
		return err
	}
	found, err := status.Compute(object)
	if err != nil {
		return err
	}
	a.KStatus, a.Message = found.Status.String(), found.Message
	return nil
}

func run(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 4<<20)
	told := json.NewEncoder(out)
	for lines.Scan() {
		found, err := read(lines.Bytes())
		if err != nil {
			return err
		}
		if err := told.Encode(found); err != nil {
			return err
		}
	}
	return lines.Err()
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "readers:", err)
		os.Exit(1)
	}
}
