{{/* Which GPUs a runtime draws on, how they are shared, and what that leaves for each worker. */}}

{{/* A quantity of CPU in millicores. */}}
{{- define "sfumato.millicores" -}}
{{- $text := toString . -}}
{{- if hasSuffix "m" $text -}}{{ trimSuffix "m" $text | int }}{{- else -}}{{ mulf (float64 $text) 1000 | int }}{{- end -}}
{{- end -}}

{{/* A quantity of memory in MiB. */}}
{{- define "sfumato.mebibytes" -}}
{{- $text := toString . -}}
{{- $number := regexFind "^[0-9.]+" $text | float64 -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- $factor := get (dict "" 0.00000095367 "Ki" 0.0009765625 "Mi" 1.0 "Gi" 1024.0 "Ti" 1048576.0 "k" 0.00095367 "M" 0.95367 "G" 953.67 "T" 953674.0) $unit -}}
{{- mulf $number $factor | floor | int -}}
{{- end -}}

{{/* The classes of GPU: the chart's, with those of gpu.classes laid over. */}}
{{- define "sfumato.gpu.classes" -}}
{{- mustMergeOverwrite (.Files.Get "files/gpu-classes.yaml" | fromYaml) (deepCopy .Values.gpu.classes) | toJson -}}
{{- end -}}

{{/* What else the values of a runtime come to, as JSON:
     gpus, resource: how many of which resource a worker gets; gpus is 0 on CPUs.
     slices: workers of one GPU. pool: name of its kind of node.
     spotNotices: whose to watch for; empty: nobody's.
     memoryFraction: of the GPU's memory that a worker may take; empty: all of it.
     cpu, memory: of each worker. nodeSelector, affinity, tolerations. */}}
{{- define "sfumato.runtime.facts" -}}
{{- $runtime := .runtime -}}
{{- $gpu := $runtime.gpu -}}
{{- $sharing := $gpu.sharing -}}
{{- $at := printf "runtimes: %s: " $runtime.name -}}
{{- $facts := dict "gpus" (int $gpu.count) "resource" "" "slices" 1 "memoryFraction" "" "spotNotices" "" "nodeSelector" dict "affinity" dict "tolerations" list "pool" "" -}}
{{- if $facts.gpus -}}
{{- $classes := include "sfumato.gpu.classes" .root | fromJson -}}
{{- $mine := list -}}
{{- range compact (prepend $gpu.alternatives $gpu.class) -}}
{{- if not (hasKey $classes .) -}}
{{- fail (printf "%sthere is no class of GPU %q. Those known are %s; gpu.classes adds others." $at . (keys $classes | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $class := get $classes . -}}
{{- if and (ne $gpu.platform "none") (not (hasKey $class $gpu.platform)) -}}
{{- fail (printf "%s%s is not known to have GPUs of the class %q. Take another class, say what it is called there in gpu.classes.%s.%s.accelerator, or platform: none with a nodeSelector." $at $gpu.platform . . $gpu.platform) -}}
{{- end -}}
{{- $mine = append $mine $class -}}
{{- end -}}
{{- if and (ne $gpu.platform "none") (not $mine) -}}
{{- fail (printf "%sgpu.platform is %s, but gpu.class says nothing. Classes are %s." $at $gpu.platform (keys $classes | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $_ := include "sfumato.gpu.share" (dict "root" .root "runtime" $runtime "facts" $facts "classes" $mine "at" $at) -}}
{{- $_ := include "sfumato.gpu.place" (dict "root" .root "runtime" $runtime "facts" $facts "classes" $mine) -}}
{{- $_ := include "sfumato.gpu.size" (dict "runtime" $runtime "facts" $facts "classes" $mine "at" $at) -}}
{{- else -}}
{{- $_ := set $facts "cpu" "2" -}}
{{- $_ := set $facts "memory" "4Gi" -}}
{{- end -}}
{{- toJson $facts -}}
{{- end -}}

{{/* Sets resource, slices, memoryFraction. */}}
{{- define "sfumato.gpu.share" -}}
{{- $gpu := .runtime.gpu -}}
{{- $sharing := $gpu.sharing -}}
{{- $facts := .facts -}}
{{- $slices := int $sharing.replicas -}}
{{- $shared := has $sharing.mode (list "time-slicing" "mps") -}}
{{- if and (not $shared) (gt $slices 1) -}}
{{- fail (printf "%sgpu.sharing.replicas is %d, but gpu.sharing.mode is %s. Slices come with time-slicing or mps; how many instances MIG makes follows from migProfile." .at $slices $sharing.mode) -}}
{{- end -}}
{{- if and $shared (lt $slices 2) -}}
{{- fail (printf "%sgpu.sharing.mode is %s, and gpu.sharing.replicas is 1: say how many workers share a GPU, 2 or more." .at $sharing.mode) -}}
{{- end -}}
{{- if and (eq $sharing.mode "mig") (not $sharing.migProfile) -}}
{{- fail (printf "%sgpu.sharing.mode is mig: gpu.sharing.migProfile says which instance, as 1g.10gb." .at) -}}
{{- end -}}
{{- if eq $sharing.mode "mig" -}}
{{- /* A GPU has seven parts: 1g.10gb takes one of them, 3g.40gb three. */ -}}
{{- $slices = div 7 (regexFind "^[0-9]" $sharing.migProfile | int) -}}
{{- end -}}
{{- $_ := set $facts "slices" $slices -}}
{{- $resource := "nvidia.com/gpu" -}}
{{- if ne $gpu.platform "gke" -}}
{{- if $shared }}{{ $resource = "nvidia.com/gpu.shared" }}{{ end -}}
{{- if eq $sharing.mode "mig" }}{{ $resource = printf "nvidia.com/mig-%s" $sharing.migProfile }}{{ end -}}
{{- end -}}
{{- $_ := set $facts "resource" $resource -}}
{{- if not (kindIs "invalid" $sharing.memoryFraction) -}}
{{- $_ := set $facts "memoryFraction" (toString $sharing.memoryFraction) -}}
{{- else if $shared -}}
{{- $fraction := divf 0.9 $slices -}}
{{- if .classes -}}
{{- $least := 1000000.0 -}}
{{- range .classes }}{{ $least = minf $least .memory }}{{ end -}}
{{- $left := subf (divf $least $slices) $sharing.reservedGiB -}}
{{- if lt $left 1.0 -}}
{{- fail (printf "%s%d workers share a GPU of %.1f GiB: %.1f GiB for each, of which its process takes %.1f before any weights. At least 1 GiB must be left: fewer gpu.sharing.replicas, or a larger class." .at $slices $least (divf $least $slices) (float64 $sharing.reservedGiB)) -}}
{{- end -}}
{{- $fraction = divf $left $least -}}
{{- end -}}
{{- $_ := set $facts "memoryFraction" (printf "%.3f" (divf (floor (mulf $fraction 1000)) 1000)) -}}
{{- end -}}
{{- end -}}

{{/* Sets nodeSelector, affinity, tolerations, pool. */}}
{{- define "sfumato.gpu.place" -}}
{{- $gpu := .runtime.gpu -}}
{{- $sharing := $gpu.sharing -}}
{{- $facts := .facts -}}
{{- $selector := dict -}}
{{- $terms := list -}}
{{- $label := get (dict "gke" "cloud.google.com/gke-accelerator" "eks" "karpenter.k8s.aws/instance-gpu-name" "coreweave" "gpu.nvidia.com/class" "gfd" "nvidia.com/gpu.product") $gpu.platform -}}
{{- if $label -}}
{{- $names := list -}}
{{- range .classes }}{{ $names = append $names (get . $gpu.platform).accelerator }}{{ end -}}
{{- if eq (len (uniq $names)) 1 -}}
{{- $_ := set $selector $label (first $names) -}}
{{- else -}}
{{- $terms = append $terms (dict "key" $label "operator" "In" "values" (uniq $names)) -}}
{{- end -}}
{{- end -}}
{{- with $gpu.region }}{{ $_ := set $selector "topology.kubernetes.io/region" . }}{{ end -}}
{{- if eq $gpu.platform "gke" -}}
{{- if has $sharing.mode (list "time-slicing" "mps") -}}
{{- $_ := set $selector "cloud.google.com/gke-gpu-sharing-strategy" (ternary "mps" "time-sharing" (eq $sharing.mode "mps")) -}}
{{- $_ := set $selector "cloud.google.com/gke-max-shared-clients-per-gpu" (toString $facts.slices) -}}
{{- else if eq $sharing.mode "mig" -}}
{{- $_ := set $selector "cloud.google.com/gke-gpu-partition-size" $sharing.migProfile -}}
{{- end -}}
{{- if eq $gpu.capacity "spot" }}{{ $_ := set $selector "cloud.google.com/gke-spot" "true" }}{{ end -}}
{{- if eq $gpu.capacity "on-demand" }}{{ $terms = append $terms (dict "key" "cloud.google.com/gke-spot" "operator" "DoesNotExist") }}{{ end -}}
{{- with .root.Values.models.gkeSecondaryBootDisk -}}
{{- if .image }}{{ $_ := set $selector (printf "cloud.google.com.node-restriction.kubernetes.io/gke-secondary-boot-disk-%s" .image) (printf "CONTAINER_IMAGE_CACHE.%s" .project) }}{{ end -}}
{{- end -}}
{{- else if eq $gpu.platform "eks" -}}
{{- if ne $gpu.capacity "any" }}{{ $_ := set $selector "karpenter.sh/capacity-type" $gpu.capacity }}{{ end -}}
{{- else if ne $gpu.capacity "any" -}}
{{- fail (printf "runtimes: %s: gpu.capacity is %s, but which nodes are spot can't be told on platform %s: any, and a nodeSelector." .runtime.name $gpu.capacity $gpu.platform) -}}
{{- end -}}
{{- if and (ne $gpu.platform "gke") (ne $sharing.mode "none") .root.Values.gpu.devicePlugin.create -}}
{{- $_ := set $selector "nvidia.com/device-plugin.config" (include "sfumato.gpu.sharingName" (dict "runtime" .runtime)) -}}
{{- end -}}
{{- if and $gpu.spotNotices (ne $gpu.capacity "on-demand") -}}
{{- $_ := set $facts "spotNotices" (default "" (get (dict "gke" "gcp" "eks" "aws") $gpu.platform)) -}}
{{- end -}}
{{- $_ := set $facts "nodeSelector" $selector -}}
{{- with $terms -}}
{{- $_ := set $facts "affinity" (dict "nodeAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" (list (dict "matchExpressions" .))))) -}}
{{- end -}}
{{- $tolerations := list (dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule") -}}
{{- if ne $gpu.capacity "on-demand" -}}
{{- $tolerations = append $tolerations (dict "key" "cloud.google.com/gke-spot" "operator" "Equal" "value" "true" "effect" "NoSchedule") -}}
{{- $tolerations = append $tolerations (dict "key" "kubernetes.azure.com/scalesetpriority" "operator" "Equal" "value" "spot" "effect" "NoSchedule") -}}
{{- $tolerations = append $tolerations (dict "key" "karpenter.sh/capacity-type" "operator" "Equal" "value" "spot" "effect" "NoSchedule") -}}
{{- end -}}
{{- $_ := set $facts "tolerations" $tolerations -}}
{{- $_ := set $facts "pool" (list (include "sfumato.gpu.classNames" .) (include "sfumato.gpu.sharingName" (dict "runtime" .runtime)) | join "-") -}}
{{- end -}}

{{- define "sfumato.gpu.classNames" -}}
{{- compact (prepend .runtime.gpu.alternatives .runtime.gpu.class) | uniq | join "-" -}}
{{- end -}}

{{/* What the device plugin's configuration for it is called: whole, time-slicing-4, mps-2, mig. */}}
{{- define "sfumato.gpu.sharingName" -}}
{{- $sharing := .runtime.gpu.sharing -}}
{{- if eq $sharing.mode "none" }}whole{{ else if eq $sharing.mode "mig" }}mig{{ else }}{{ printf "%s-%d" $sharing.mode (int $sharing.replicas) }}{{ end -}}
{{- end -}}

{{/* Sets cpu and memory: a node's, but for what the system takes, among all workers that its GPUs can
     have. Asked for more than that, the last of them would never fit, and a second node would come. */}}
{{- define "sfumato.gpu.size" -}}
{{- $gpu := .runtime.gpu -}}
{{- $facts := .facts -}}
{{- $node := dict "cpu" 0.0 "memory" 0.0 "gpus" 1.0 -}}
{{- range .classes -}}
{{- $theirs := dig $gpu.platform "node" dict . -}}
{{- if and $theirs (or (not $node.cpu) (lt (divf $theirs.cpu $theirs.gpus) (divf $node.cpu $node.gpus))) }}{{ $node = $theirs }}{{ end -}}
{{- end -}}
{{- $own := dict -}}
{{- range $key, $value := $gpu.node }}{{ if $value }}{{ $_ := set $own $key $value }}{{ end }}{{ end -}}
{{- $node = mustMergeOverwrite (deepCopy $node) $own -}}
{{- $workers := mulf $node.gpus $facts.slices -}}
{{- if and (not (and $node.cpu $node.memory)) (gt $workers 1.0) -}}
{{- fail (printf "%s%d workers are to fit a node, of which nothing is known. Give its CPUs, its memory in GiB and its GPUs: gpu.node: {cpu: 4, memory: 16, gpus: 1}." .at (int $workers)) -}}
{{- end -}}
{{- $requests := .runtime.resources.requests -}}
{{- $cpu := 2000 -}}
{{- $memory := 8192 -}}
{{- if and $node.cpu $node.memory -}}
{{- $freeCpu := mulf 1000 (subf $node.cpu $gpu.reserved.cpu) -}}
{{- $freeMemory := mulf 1024 (subf $node.memory $gpu.reserved.memory) -}}
{{- $besideCpu := 0 -}}
{{- $besideMemory := 0 -}}
{{- range .runtime.extraSidecars -}}
{{- $besideCpu = add $besideCpu (dig "resources" "requests" "cpu" "0" . | include "sfumato.millicores" | int) -}}
{{- $besideMemory = add $besideMemory (dig "resources" "requests" "memory" "0" . | include "sfumato.mebibytes" | int) -}}
{{- end -}}
{{- $cpu = subf (divf $freeCpu $workers) $besideCpu | floor | int -}}
{{- $memory = subf (divf $freeMemory $workers) $besideMemory | floor | int -}}
{{- if hasKey $requests "cpu" -}}
{{- $asked := include "sfumato.millicores" $requests.cpu | int -}}
{{- if gt $asked $cpu -}}
{{- fail (printf "%s%d workers share a node of %v CPUs, of which %v are the system's: %dm for each. They ask for %v: the last would never fit, and each node would draw a second one. Ask for less in resources.requests.cpu, leave it out, or take larger nodes in gpu.node." .at (int $workers) $node.cpu $gpu.reserved.cpu $cpu $requests.cpu) -}}
{{- end -}}
{{- end -}}
{{- if hasKey $requests "memory" -}}
{{- $asked := include "sfumato.mebibytes" $requests.memory | int -}}
{{- if gt $asked $memory -}}
{{- fail (printf "%s%d workers share a node of %v GiB, of which %v are the system's: %dMi for each. They ask for %v: the last would never fit. Ask for less in resources.requests.memory, leave it out, or take larger nodes in gpu.node." .at (int $workers) $node.memory $gpu.reserved.memory $memory $requests.memory) -}}
{{- end -}}
{{- end -}}
{{- if or (lt $cpu 250) (lt $memory 1024) -}}
{{- fail (printf "%s%d workers share a node of %v CPUs and %v GiB: %dm and %dMi for each, less than one can draw with. Fewer gpu.sharing.replicas, or larger nodes in gpu.node." .at (int $workers) $node.cpu $node.memory $cpu $memory) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $facts "cpu" (printf "%dm" (min $cpu 8000 | int)) -}}
{{- $_ := set $facts "memory" (printf "%dMi" (min $memory 65536 | int)) -}}
{{- end -}}
