#!/usr/bin/env bash
# Install the template as a user would, see it listed, check it, train, caption and export with it, remove it.
#   bash plugins/vlv-plugin-template/roundtrip.sh [VENV]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
bin="$(cd "${1:-$root/.venv}/bin" && pwd)"
work="$(mktemp -d)"
trap '"$bin/pip" uninstall -q -y vlv-plugin-template >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

cp -r "$here" "$work/template"
"$bin/pip" install --quiet --disable-pip-version-check --no-deps "$work/template"

listed() { "$bin/vlv" plugins --json | grep -c '"patch-mean"' || true; }
[ "$(listed)" = 1 ] || { echo "patch-mean is not listed"; exit 1; }
(cd "$work/template" && "$bin/python" -m pytest)

cat > "$work/recipe.toml" <<'TOML'
name = "template"
seed = 0
view = { size = 64 }
encoder = { plugin = "patch-mean", dim = 32 }
bottleneck = { plugin = "query", num_queries = 4, depth = 1, heads = 2 }
decoder = { plugin = "mini-t2i", weights = "mini" }
connector = { plugin = "mlp" }
head = { plugin = "mini-lm", width = 32, depth = 1, heads = 2, hidden = 48 }

[stage1]
train = ["encoder", "bottleneck"]
steps = 2
batch = 8
lr = 1e-3
data = { dataset = "scenes" }

[stage2]
train = ["connector", "head"]
steps = 2
batch = 8
lr = 1e-3
data = { dataset = "scenes" }
TOML
"$bin/vlv" train "$work/recipe.toml" -o "$work/run"
"$bin/python" -m vlv_plugins.scenes.make "$work/pictures" --count 3 >/dev/null
"$bin/vlv" caption "$work/pictures" --model "$work/run/model" --max-new-tokens 8 --out "$work/captions.jsonl"
[ "$(grep -c '"status": *"ok"' "$work/captions.jsonl")" = 3 ] || { cat "$work/captions.jsonl"; exit 1; }
# Engines of the same encoder, where their compiler is installed.
engines=(--rtx --sm "86,120" --dtype fp32)
"$bin/python" -c 'import tensorrt_rtx' 2>/dev/null || engines=()
"$bin/vlv-export" "$work/run/model" -o "$work/artefact" --onnx "${engines[@]}"
[ "${#engines[@]}" = 0 ] || [ -s "$work/artefact/variants/rtx-fp32-sm86+120/encoder.engine" ] || { echo "no engine"; exit 1; }
"$bin/vlv" caption "$work/pictures" --model "$work/artefact" --max-new-tokens 8 --out "$work/exported.jsonl"
words() { "$bin/python" -c 'import json, sys; print([json.loads(line)["caption"] for line in open(sys.argv[1])])' "$1"; }
[ "$(words "$work/captions.jsonl")" = "$(words "$work/exported.jsonl")" ] || { echo "exported, it says other words"; exit 1; }

"$bin/pip" uninstall -q -y vlv-plugin-template
[ "$(listed)" = 0 ] || { echo "patch-mean is still listed"; exit 1; }
echo "template: installed, listed, checked, trained, captioned, exported, removed"
