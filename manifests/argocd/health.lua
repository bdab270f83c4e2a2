-- Health of a RecommendationPipeline for Argo CD: `resource.customizations.health.recommendation.dev_RecommendationPipeline`
-- in ConfigMap argocd-cm (argocd-cm.yaml beside this file carries it).
local hs = {status = "Progressing", message = "the operator has not looked at it yet"}

local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end

local function is(type, status)
  return conditions[type] ~= nil and conditions[type].status == status
end

-- While it is deleted only what holds the deletion up matters.
if obj.metadata.deletionTimestamp ~= nil then
  hs.message = "being deleted"
  if is("CleanupBlocked", "True") then
    hs.status = "Degraded"
    hs.message = conditions.CleanupBlocked.message
  end
  return hs
end

-- What is said of an older spec says nothing of this one.
if obj.status == nil or obj.status.observedGeneration == nil
    or (obj.metadata.generation ~= nil and obj.status.observedGeneration ~= obj.metadata.generation) then
  return hs
end

if is("Suspended", "True") then
  hs.status = "Suspended"
  hs.message = conditions.Suspended.message
elseif is("Stalled", "True") then
  hs.status = "Degraded"
  hs.message = conditions.Stalled.message
elseif is("Ready", "True") then
  hs.status = "Healthy"
  hs.message = conditions.Ready.message
elseif conditions.Ready ~= nil then
  hs.message = conditions.Ready.message
end
return hs
