{{- define "probe.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- define "probe.run" -}}
restartPolicy: Never
containers:
  - name: main
    image: {{ .image }}
    command: [python3, -c, {{ .code | quote }}]
{{- end }}
