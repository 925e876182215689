# Makes a JSON schema for kubeconform of each kind that the manifests use: a line "FILE\tSCHEMA". The input is
# Kubernetes' OpenAPI document of version 2, or a list of CustomResourceDefinitions, as a cluster returns them.
# The schemas are closed, so a misspelled field is an error. Descriptions and `status` are left out.

def kinds: [
  "ConfigMap", "Deployment", "Job", "Namespace", "NetworkPolicy", "PodDisruptionBudget", "PrometheusRule",
  "ScaledObject", "Service", "ServiceMonitor", "TriggerAuthentication"
];

def keywords: [
  "$ref", "additionalProperties", "allOf", "anyOf", "enum", "items", "maximum", "maxItems", "maxLength",
  "maxProperties", "minimum", "minItems", "minLength", "minProperties", "not", "oneOf", "pattern", "properties",
  "required", "type"
];

# A part of a schema, such as a branch of anyOf, may name some of the fields only, so it stays open.
def part(closed):
  if type != "object" then .
  elif .["x-kubernetes-int-or-string"] or .format == "int-or-string" then {type: ["string", "integer"]}
  else
    (.["x-kubernetes-preserve-unknown-fields"] // false) as $open
    | with_entries(select(.key | IN(keywords[])))
    | if .properties then .properties |= map_values(part(closed)) else . end
    | if .items then .items |= part(closed) else . end
    | if .additionalProperties then .additionalProperties |= part(closed) else . end
    | reduce ("allOf", "anyOf", "oneOf") as $key (.; if has($key) then .[$key] |= map(part(false)) else . end)
    | if has("not") then .not |= part(false) else . end
    | if closed and .properties and ($open | not) and (has("additionalProperties") | not)
      then .additionalProperties = false else . end
  end;

def references: [.. | objects | .["$ref"]? // empty | ltrimstr("#/definitions/")] | unique;

# The definitions that `names` need, directly or by others.
def closure($definitions; names):
  def grow: . as $known
    | ($known + [$known[] | $definitions[.] | references[]] | unique) as $more
    | if ($more | length) == ($known | length) then . else ($more | grow) end;
  names | grow;

def line($group; $version; $kind; schema):
  ([$kind, ($group | split(".")[0]), $version] | map(select(. != "" and . != null)) | join("-") | ascii_downcase)
  + ".json\t" + (schema | tojson);

def of_kubernetes:
  .definitions
  # A quantity is written as a string or as a number.
  | .["io.k8s.apimachinery.pkg.api.resource.Quantity"].type = ["string", "number"]
  | with_entries(.value |= (del(.properties.status) | if .properties == {} then del(.properties) else . end)) as $all
  | ($all | map_values(part(true))) as $definitions
  | $all | to_entries[]
  | .key as $name
  | (.value["x-kubernetes-group-version-kind"] // [])[]
  | select((.kind | IN(kinds[])) and .version == "v1" and ($name | startswith("io.k8s.api.")))
  | line(.group; .version; .kind;
      {"$ref": ("#/definitions/" + $name),
       definitions: ([$name] | closure($definitions; .) | map({key: ., value: $definitions[.]}) | from_entries)});

# A definition does not describe `metadata`, which every object has.
def of_definition:
  .spec.group as $group | .spec.names.kind as $kind
  | select($kind | IN(kinds[]))
  | .spec.versions[]
  | line($group; .name; $kind;
      .schema.openAPIV3Schema | del(.properties.status) | part(true) | .properties.metadata = {type: "object"});

if .definitions then of_kubernetes else (.items // [.])[] | of_definition end
