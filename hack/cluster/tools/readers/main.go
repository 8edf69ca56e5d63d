// Command readers says of objects on standard input, one a line as JSON, what programs that know
// no FineTuningJob take them for: a line for each.
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

type answer struct {
	KStatus string `json:"kstatus"`
	Message string `json:"message"`
}

// read asks kstatus, by which Flux, kpt and kustomize's appliers wait.
func read(line []byte) (answer, error) {
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(line); err != nil {
		return answer{}, err
	}
	found, err := status.Compute(object)
	if err != nil {
		return answer{}, err
	}
	return answer{KStatus: found.Status.String(), Message: found.Message}, nil
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
