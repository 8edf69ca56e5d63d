package main

import (
	"regexp"
	"strings"

	"github.com/tidwall/gjson"
	"k8s.io/apimachinery/pkg/labels"
)

// byKatib follows Katib's trial controller: GJSON paths over the whole object, failure first, and
// what is found counts when it is an object or a list with something in it.
func byKatib(object []byte, told conditions) string {
	if holds(object, told.Failure) {
		return failed
	}
	if holds(object, told.Success) {
		return succeeded
	}
	return running
}

func holds(object []byte, path string) bool {
	found := gjson.GetBytes(object, path)
	return found.IsObject() || (found.IsArray() && len(found.Array()) > 0)
}

// fields lets a label selector ask for what stands in an object, as Argo's executor does.
type fields []byte

func (f fields) Has(path string) bool              { return gjson.GetBytes(f, path).Exists() }
func (f fields) Get(path string) string            { return gjson.GetBytes(f, path).String() }
func (f fields) Lookup(path string) (string, bool) { return f.Get(path), f.Has(path) }

// byArgo follows its executor: any one requirement of the failure, or all of the success.
func byArgo(object []byte, told conditions) (string, error) {
	failure, err := labels.ParseToRequirements(told.Failure)
	if err != nil {
		return "", err
	}
	success, err := labels.ParseToRequirements(told.Success)
	if err != nil {
		return "", err
	}
	for _, each := range failure {
		if each.Matches(fields(object)) {
			return failed, nil
		}
	}
	for _, each := range success {
		if !each.Matches(fields(object)) {
			return running, nil
		}
	}
	return succeeded, nil
}

// wroteLog is a container's output, and what Katib's collector is told to look for in it.
type wroteLog struct {
	Text    string   `json:"text"`
	Filters []string `json:"filters"`
	Names   []string `json:"names"`
}

type metric struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// collected follows the collector for text: lines with a metric's name in them, in each the first
// two groups of every match, when the first is that name.
func collected(wrote wroteLog) ([]metric, error) {
	var found []metric
	for _, filter := range wrote.Filters {
		pattern, err := regexp.Compile(filter)
		if err != nil {
			return nil, err
		}
		for _, line := range strings.Split(wrote.Text, "\n") {
			for _, match := range pattern.FindAllStringSubmatch(line, -1) {
				for _, name := range wrote.Names {
					if len(match) > 2 && strings.TrimSpace(match[1]) == name {
						found = append(found, metric{name, strings.TrimSpace(match[2])})
					}
				}
			}
		}
	}
	return found, nil
}
