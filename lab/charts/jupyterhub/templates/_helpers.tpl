{{- define "labels" -}}
{"app": "jupyterhub", "chart": "{{ .Chart.Name }}-{{ .Chart.Version }}", "release": "{{ .Release.Name }}", "heritage": "{{ .Release.Service }}", "app.kubernetes.io/name": "jupyterhub", "app.kubernetes.io/instance": "{{ .Release.Name }}", "app.kubernetes.io/managed-by": "{{ .Release.Service }}"}
{{- end }}
{{- define "match" -}}
{"app": "jupyterhub", "release": "{{ .Release.Name }}"}
{{- end }}
{{- /* a key of the chart's own Secret: made once, then kept */}}
{{- define "generated" -}}
{{- $have := lookup "v1" "Secret" .root.Release.Namespace "hub" | default dict }}
{{- index ($have.data | default dict) .key | default (include .kind . | b64enc) }}
{{- end }}
{{- define "token" }}{{ randAlphaNum 64 }}{{ end }}
{{- define "hex" }}{{ randBytes 32 | b64dec | printf "%x" }}{{ end }}
