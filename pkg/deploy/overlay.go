package deploy

import (
	"fmt"
	"io/fs"
	"strings"
)

// File is one file of a kustomization.
type File struct {
	Path string // with slashes, such as overlays/prod/kustomization.yaml
	Data []byte
}

const overlayText = `# Made by latamctl from latam.yaml for the environment {environment}. Make it again rather than edit it.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: "{name}"
resources: [../../base]
labels:
  - pairs:
      app.kubernetes.io/managed-by: latamctl
      app.kubernetes.io/part-of: "{name}"
    includeTemplates: true
images:
  - name: latamctl
    newName: {repository}
    digest: {digest}
configMapGenerator:
  - name: declaration
    behavior: replace
    files: [latam.yaml]
  - name: settings
    behavior: replace
    envs: [settings.env]
patches:
  - target: {kind: ServiceAccount, name: ingest}
    patch: |-
      - {op: replace, path: /metadata/annotations/iam.gke.io~1gcp-service-account, value: {ingest-account}}
  - target: {kind: ServiceAccount, name: serve}
    patch: |-
      - {op: replace, path: /metadata/annotations/iam.gke.io~1gcp-service-account, value: {serve-account}}
  - target: {kind: Gateway, name: api}
    patch: |-
      - {op: replace, path: /metadata/annotations/networking.gke.io~1certmap, value: {name}-api}
      - {op: replace, path: /spec/addresses/0/value, value: {name}-api}
  - target: {kind: HTTPRoute, name: api}
    patch: |-
      - {op: replace, path: /spec/hostnames/0, value: {host}}
  - target: {kind: GCPGatewayPolicy, name: api}
    patch: |-
      - {op: replace, path: /spec/default/sslPolicy, value: {name}-api}
  - target: {kind: GCPBackendPolicy, name: serve}
    patch: |-
      - {op: replace, path: /spec/default/securityPolicy, value: {name}-api}
`

// lagText takes the component lag in.
const lagText = `  - target: {kind: DatadogMetric, name: ingest-lag}
    patch: |-
      - {op: replace, path: /spec/query, value: "max:latam.ingest.lag{env:{environment},service:latam-ingest}"}
  - target: {kind: HorizontalPodAutoscaler, name: ingest}
    patch: |-
      - {op: test, path: /spec/metrics/2/type, value: External}
      - {op: replace, path: /spec/metrics/2/external/metric/name, value: "datadogmetric@{name}:ingest-lag"}
components: [../../base/lag]
`

// greenText makes green the colour that is live; the base has blue.
const greenText = `  - target: {kind: Service, name: serve}
    patch: |-
      - {op: replace, path: /spec/selector/latamctl~1colour, value: green}
  - target: {kind: Deployment, name: serve-green}
    patch: |-
      - {op: remove, path: /spec/replicas}
  - target: {kind: Deployment, name: serve-blue}
    patch: |-
      - {op: add, path: /spec/replicas, value: 0}
`

const settingsText = `LATAM_ENV={environment}
LATAM_ENGINE=gcp
LATAM_PROJECT={project}
LATAM_INSTANCE={instance}
LATAM_GATEWAY_AUDIENCE=https://{host}
LATAM_GATEWAY_EMAIL={gateway-account}
`

// Files are a kustomization of one environment: base/… as it is in baseFS, and overlays/<environment>/…
// with the values. `kubectl apply -k overlays/<environment>` and Argo CD make of it what Render does.
func Files(baseFS fs.FS, v Values) ([]File, error) {
	v = v.Defaults()
	if err := v.Validate(); err != nil {
		return nil, err
	}
	var files []File
	err := fs.WalkDir(baseFS, "base", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(baseFS, path)
		files = append(files, File{Path: path, Data: data})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the Kubernetes objects of the program: %w", err)
	}
	return append(files, overlay(v)...), nil
}

// overlayDir is where the values of an environment are.
func overlayDir(environment string) string { return "overlays/" + environment }

func overlay(v Values) []File {
	repository, digest := v.image()
	values := strings.NewReplacer(
		"{environment}", v.Environment, "{name}", v.Name, "{instance}", v.Instance, "{project}", v.Project, "{host}", v.BackendHost,
		"{repository}", repository, "{digest}", digest,
		"{ingest-account}", v.account("ingest"), "{serve-account}", v.account("serve"), "{gateway-account}", v.account("gateway"),
	)
	kustomization, settings := overlayText, settingsText
	if v.Live == Green {
		kustomization += greenText
	}
	if v.ScaleOnLag {
		kustomization += lagText // The last: it ends the list of patches.
	}
	if v.OTLPEndpoint != "" {
		settings += "OTEL_EXPORTER_OTLP_ENDPOINT=" + v.OTLPEndpoint + "\n"
	}
	dir := overlayDir(v.Environment)
	return []File{
		{Path: dir + "/kustomization.yaml", Data: []byte(values.Replace(kustomization))},
		{Path: dir + "/latam.yaml", Data: v.Declaration},
		{Path: dir + "/settings.env", Data: []byte(values.Replace(settings))},
	}
}
