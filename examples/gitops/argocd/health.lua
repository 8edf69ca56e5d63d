-- Health of a FineTuningJob for Argo CD: docs/gitops.md says where it goes.
local health = { status = "Progressing", message = "Waiting for the operator" }
local status = obj.status
if status == nil or status.phase == nil then
  return health
end
if status.observedGeneration ~= obj.metadata.generation then
  health.message = "Waiting for the operator to see the newest spec"
  return health
end

local held = {}
for _, condition in ipairs(status.conditions or {}) do
  held[condition.type] = condition
end
health.message = status.message or status.reason or status.phase

local config = held["ConfigValid"]
if config ~= nil and config.status == "False" then
  health.status, health.message = "Degraded", config.message
elseif status.phase == "Failed" then
  health.status = "Degraded"
elseif status.phase == "Paused" then
  health.status = "Suspended"
elseif status.phase == "Succeeded" then
  local verdict = held["Validated"]
  if verdict == nil or verdict.status == "True" or verdict.reason == "ValidationSkipped" then
    health.status = "Healthy"
  elseif verdict.status == "False" then
    health.status, health.message = "Degraded", verdict.message
  else
    health.message = verdict.message
  end
end
return health
