package deploy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// The two colours of serve. One of them is live.
const (
	Blue  = "blue"
	Green = "green"
)

// Values are what the objects of one environment take from its declaration and its settings.
type Values struct {
	// Environment is the name of the environment, such as prod.
	Environment string
	// Name is the declaration's name: the namespace, and the prefix of everything in the cloud.
	Name string
	// Instance is the Bigtable instance. Default the name.
	Instance string
	Project  string
	// Image is what runs, by digest, such as europe-docker.pkg.dev/p/latam/latamctl@sha256:….
	Image string
	// BackendHost is the DNS name under which API Gateway reaches serve.
	BackendHost string
	// Declaration is the text of latam.yaml.
	Declaration []byte
	// OTLPEndpoint is where metrics and traces go, such as http://datadog.datadog.svc.cluster.local:4318; "" sends none.
	OTLPEndpoint string
	// ScaleOnLag makes the autoscaler of ingest look at its lag as well, which Datadog's Cluster Agent tells.
	ScaleOnLag bool
	// Live is the colour that gets the requests. Default blue. Plan and Apply take what the cluster has.
	Live string
}

// Defaults fills in what is not set.
func (v Values) Defaults() Values {
	if v.Live == "" {
		v.Live = Blue
	}
	if v.Instance == "" {
		v.Instance = v.Name
	}
	return v
}

// The forms of values. They are strict, because the values become part of YAML documents.
var (
	nameForm     = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`)
	projectForm  = regexp.MustCompile(`^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	hostForm     = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
	imageForm    = regexp.MustCompile(`^([a-z0-9][a-z0-9._/:-]*)@(sha256:[0-9a-f]{64})$`)
	endpointForm = regexp.MustCompile(`^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?$`)
)

// Validate says what is missing or has another form than expected.
func (v Values) Validate() error {
	var errs []error
	check := func(key, value string, form *regexp.Regexp, expected string) {
		switch {
		case value == "":
			errs = append(errs, fmt.Errorf("%s is not set: expected %s", key, expected))
		case !form.MatchString(value):
			errs = append(errs, fmt.Errorf("%s %q is not %s", key, value, expected))
		}
	}
	check("environment", v.Environment, nameForm, "a name of small letters, digits and hyphens")
	check("name", v.Name, nameForm, "a name of small letters, digits and hyphens")
	if v.Instance != "" {
		check("instance", v.Instance, nameForm, "a name of small letters, digits and hyphens")
	}
	check("project", v.Project, projectForm, "the id of a Google Cloud project such as my-project")
	check("image", v.Image, imageForm, "an image by digest such as us-central1-docker.pkg.dev/my-project/latam/latamctl@sha256:<64 hex digits>; a tag can be moved, so none is taken")
	check("backend_host", v.BackendHost, hostForm, "a DNS name such as backend.latam.example.com")
	if v.OTLPEndpoint != "" {
		check("OTLP endpoint", v.OTLPEndpoint, endpointForm, "a URL such as http://datadog.datadog:4318")
	}
	if len(v.Declaration) == 0 {
		errs = append(errs, errors.New("the declaration is empty: expected the text of latam.yaml"))
	}
	if v.Live != Blue && v.Live != Green {
		errs = append(errs, fmt.Errorf("live colour %q is not %s or %s", v.Live, Blue, Green))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("values of the Kubernetes objects: %w", err)
	}
	return nil
}

// account is the email of one of the environment's service accounts.
func (v Values) account(role string) string {
	project := v.Project
	if domain, id, ok := strings.Cut(project, ":"); ok {
		project = id + "." + domain // example.com:my-project has accounts in my-project.example.com.
	}
	return v.Name + "-" + role + "@" + project + ".iam.gserviceaccount.com"
}

// image returns the image's repository and its digest.
func (v Values) image() (repository, digest string) {
	repository, digest, _ = strings.Cut(v.Image, "@")
	return repository, digest
}
