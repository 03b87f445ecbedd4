"""JSON schemas of what the manifests under cluster/ may hold: field names and types as the KubeRay operator (1.6) and Kubernetes have them.

They list only what is used there, and allow nothing else, so that a misspelt field fails. A real cluster drops such a field without a word.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
QUANTITY: Schema = {"type": "string", "pattern": r"^[0-9.]+(m|Ki|Mi|Gi|Ti)?$"}
LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


def thing(required: str = "", **properties: Schema) -> Schema:
    """An object with these fields and no other; `required` names some, separated by spaces."""
    return {"type": "object", "additionalProperties": False, "required": required.split(), "properties": properties}


def many(items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": items}


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


METADATA = thing("name namespace", name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}, namespace=TEXT)
QUANTITIES: Schema = {"type": "object", "additionalProperties": QUANTITY}
RESOURCES = thing("requests limits", requests=QUANTITIES, limits=QUANTITIES)
PROBE = thing(
    "httpGet", httpGet=thing("path port", path=TEXT, port=COUNT), periodSeconds=COUNT, timeoutSeconds=COUNT, failureThreshold=COUNT
)
SECRET_KEY = thing("name key", name=TEXT, key=TEXT, optional=FLAG)
ENV = thing("name", name=TEXT, value={"type": "string"}, valueFrom=thing("secretKeyRef", secretKeyRef=SECRET_KEY))
CONTAINER_SECURITY = thing(allowPrivilegeEscalation=FLAG, capabilities=thing(drop=many(TEXT)))
CONTAINER = thing(
    "name image resources securityContext",
    name=TEXT,
    image=TEXT,
    securityContext=CONTAINER_SECURITY,
    ports=many(thing("name containerPort", name={"type": "string", "maxLength": 15}, containerPort=COUNT)),
    resources=RESOURCES,
    env=many(ENV),
    startupProbe=PROBE,
    readinessProbe=PROBE,
    livenessProbe=PROBE,
    volumeMounts=many(thing("name mountPath", name=TEXT, mountPath=TEXT)),
)
VOLUME = thing(
    "name",
    name=TEXT,
    persistentVolumeClaim=thing("claimName", claimName=TEXT),
    emptyDir=thing(medium=one_of("Memory"), sizeLimit=QUANTITY),
)
POD_SECURITY = thing(
    "runAsNonRoot runAsUser",
    runAsNonRoot=FLAG,
    runAsUser=COUNT,
    runAsGroup=COUNT,
    fsGroup=COUNT,
    seccompProfile=thing("type", type=one_of("RuntimeDefault")),
)
POD = thing(
    "spec",
    metadata=thing(labels=LABELS),
    spec=thing(
        "containers securityContext",
        terminationGracePeriodSeconds=COUNT,
        automountServiceAccountToken=FLAG,
        restartPolicy=one_of("Never"),
        securityContext=POD_SECURITY,
        containers=many(CONTAINER),
        volumes=many(VOLUME),
    ),
)
START_PARAMS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
RAY_CLUSTER = thing(
    "rayVersion authOptions headGroupSpec workerGroupSpecs",
    rayVersion=TEXT,
    authOptions=thing("mode", mode=one_of("token", "disabled")),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=thing(
        version=one_of("v1", "v2"),
        idleTimeoutSeconds=COUNT,
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        resources=RESOURCES,
        securityContext=CONTAINER_SECURITY,
    ),
    headGroupSpec=thing(
        "rayStartParams template", rayStartParams=START_PARAMS, serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer"), template=POD
    ),
    workerGroupSpecs=many(
        thing(
            "groupName rayStartParams template",
            groupName=TEXT,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            rayStartParams=START_PARAMS,
            template=POD,
        )
    ),
)
RAY_JOB = thing(
    "entrypoint rayClusterSpec",
    entrypoint=TEXT,
    entrypointNumCpus={"type": "number", "minimum": 0},
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    backoffLimit=COUNT,
    activeDeadlineSeconds=COUNT,
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=COUNT,
    submitterPodTemplate=POD,
    rayClusterSpec=RAY_CLUSTER,
)
CRON: Schema = {"type": "string", "pattern": r"^([0-9*/,-]+ ){4}[0-9*/,-]+$"}
SELECTOR = thing("matchLabels", matchLabels=LABELS)
NETWORK_POLICY = thing(
    "podSelector policyTypes ingress",
    podSelector=SELECTOR,
    policyTypes=many(one_of("Ingress", "Egress")),
    ingress=many(
        thing(
            "from",
            **{"from": many(thing(podSelector=SELECTOR, namespaceSelector=SELECTOR))},
            ports=many(thing("protocol port", protocol=one_of("TCP", "UDP"), port=COUNT)),
        )
    ),
)
SPECS: dict[tuple[str, str], Schema] = {
    ("ray.io/v1", "RayCluster"): RAY_CLUSTER,
    ("ray.io/v1", "RayJob"): RAY_JOB,
    ("ray.io/v1", "RayCronJob"): thing("schedule jobTemplate", schedule=CRON, suspend=FLAG, jobTemplate=RAY_JOB),
    ("ray.io/v1", "RayService"): thing(
        "serveConfigV2 rayClusterConfig",
        excludeHeadPodFromServeSvc=FLAG,
        rayClusterDeletionDelaySeconds=COUNT,
        upgradeStrategy=thing("type", type=one_of("NewCluster", "None")),
        serveConfigV2=TEXT,
        rayClusterConfig=RAY_CLUSTER,
    ),
    ("networking.k8s.io/v1", "NetworkPolicy"): NETWORK_POLICY,
    ("v1", "PersistentVolumeClaim"): thing(
        "accessModes resources",
        accessModes=many(one_of("ReadWriteMany", "ReadWriteOnce")),
        resources=thing("requests", requests=QUANTITIES),
        storageClassName=TEXT,
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): thing(
        "selector podMetricsEndpoints",
        selector=SELECTOR,
        podTargetLabels=many(TEXT),
        podMetricsEndpoints=many(thing("port", port=TEXT, interval=TEXT)),
    ),
}


def manifest_schema(api_version: str, kind: str) -> Schema:
    """The schema of one document.

    Raises:
        KeyError: If no manifest of this sort is known.
    """
    return thing("apiVersion kind metadata spec", apiVersion=TEXT, kind=TEXT, metadata=METADATA, spec=SPECS[api_version, kind])
